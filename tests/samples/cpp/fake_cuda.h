// What tests ask the stand-in for the CUDA driver.
#pragma once

#include <cstdint>

extern "C" {
// Address of the host memory behind an address of the stand-in's device; null for an address of host memory.
void* fake_cuda_memory(const void* address);
// Copies so far from the device to the host.
int64_t fake_cuda_downloads();
// Contexts that the calling thread has pushed and not popped.
int fake_cuda_contexts();
}
