/* Wants a header that is not in this tree. */
#include "shapes/not_here.h"
extern "C" int32_t aclnnRound(void*, uint64_t, void*, void*);
