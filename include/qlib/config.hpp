/// The only header with macros: how the library is built, and what it refuses to be built with.
#pragma once

#if defined(__FAST_MATH__)
#error "qlib: -ffast-math breaks the rounding contract (docs/rounding.md): NaN checks vanish and divisions become reciprocals. Build without it."
#endif

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "qlib: checkpoints are little endian, and so must the machine be."
#endif

// Definitions that are not templates live in .ipp files. Header-only users get them inline; `qlib::compiled` builds each of them
// once (QLIB_BUILDING) and publishes QLIB_COMPILED, so that its users see declarations alone.
#if defined(QLIB_COMPILED)
#define QLIB_INLINE
#else
#define QLIB_INLINE inline
#endif

#if defined(__GNUC__)
#define QLIB_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define QLIB_ALWAYS_INLINE inline
#endif
