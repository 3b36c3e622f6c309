// Stands in for the header of NVIDIA Performance Primitives, of which Jittor uses the limits of the integer types and
// nothing else; the package that has the real one is not needed otherwise.
#pragma once

#include <climits>

#define NPP_MIN_32U 0u
#define NPP_MAX_32U UINT_MAX
#define NPP_MIN_32S INT_MIN
#define NPP_MAX_32S INT_MAX
#define NPP_MIN_64U 0ull
#define NPP_MAX_64U ULLONG_MAX
#define NPP_MIN_64S LLONG_MIN
#define NPP_MAX_64S LLONG_MAX
