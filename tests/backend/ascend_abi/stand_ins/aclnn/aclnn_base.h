/* For trees of operators alone, which lack this header. */
#pragma once
#include "acl_meta.h"
