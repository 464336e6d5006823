/* A runtime's header without most of what it must have. */
#pragma once
extern "C" {
int aclInit(const char* path);
int aclFinalize();
}
