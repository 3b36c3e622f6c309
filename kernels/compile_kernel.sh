# Jittor calls this with "…/asm_tuner.py --cc_path=COMPILER ARGUMENTS", and it calls the compiler.
#
# The program that Jittor would run instead starts an interpreter for each kernel, which reads the user's environment
# anew (and may note JITTOR_HOME as a permanent default), compiles to assembly with debugging information and keeps both,
# 2 MB a kernel, in order to turn the stores of a few element-wise kernels into non-temporal ones.
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
