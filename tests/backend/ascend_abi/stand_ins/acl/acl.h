/* For trees without it. */
#pragma once
#include "acl_base.h"
