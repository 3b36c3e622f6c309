"""What Python programs call: the functions and classes that ``import ovd_bench`` offers."""
