/* A sample in the vendor's manner, written for the test of the check. */
#pragma once
#include "acl/acl_sample.h"

struct aclTensor;
struct aclOpExecutor;

extern "C" {
aclError aclnnMulGetWorkspaceSize(const aclTensor* self, const aclTensor* other, aclTensor* out, uint64_t* workspaceSize, aclOpExecutor** executor);
/* Not declared here: aclrtSetDevice(0). */
aclError aclnnMul(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream);
}
