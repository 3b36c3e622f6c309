# Jittor calls this with "…/asm_tuner.py --cc_path=COMPILER ARGUMENTS", and it calls the compiler.
#
# Jittor's own program starts an interpreter for each kernel. That reads the user's environment again (and may store
# JITTOR_HOME as a permanent default), compiles to assembly with debugging information and keeps both, 2 MB per kernel,
# only to make the stores of a few element-wise kernels non-temporal.
case "$1" in
*/asm_tuner.py) ;;
*)
    echo "compile_kernel.sh: not made for $1" >&2
    exit 2
    ;;
esac
compiler=${2#--cc_path=}
shift 2
exec "$compiler" "$@"
