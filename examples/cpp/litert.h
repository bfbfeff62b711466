// The few functions of LiteRT's C interface that score.cpp calls. The wheel ai-edge-litert brings the library but
// no headers. Names and layouts are those of LiteRT 2.3; with its headers at hand (litert/c/*.h) include those.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct LiteRtTensorType {
  std::int32_t element_type;
  std::uint32_t rank : 7;
  std::uint32_t has_strides : 1;
  std::int32_t dimensions[8];
  std::uint32_t strides[8];
};
static_assert(sizeof(LiteRtTensorType) == 72, "LiteRtRankedTensorType is another");

using LiteRtHandle = struct LiteRtOpaque*;  // environment, model, options and so on are all opaque

int LiteRtCreateEnvironment(int count, const void* options, LiteRtHandle* environment);
int LiteRtCreateModelFromFile(LiteRtHandle environment, const char* path, LiteRtHandle* model);
int LiteRtCreateOptions(LiteRtHandle* options);
int LiteRtSetOptionsHardwareAccelerators(LiteRtHandle options, int accelerators);
int LiteRtCreateCompiledModel(LiteRtHandle environment, LiteRtHandle model, LiteRtHandle options, LiteRtHandle* compiled);
int LiteRtCompiledModelResizeInputTensor(LiteRtHandle compiled, std::size_t signature, std::size_t input,
                                         const int* dimensions, std::size_t rank);

int LiteRtGetModelSignature(LiteRtHandle model, std::size_t index, LiteRtHandle* signature);
int LiteRtGetSignatureInputTensor(LiteRtHandle signature, const char* name, LiteRtHandle* tensor);
int LiteRtGetNumSignatureOutputs(LiteRtHandle signature, std::size_t* count);
int LiteRtGetSignatureOutputName(LiteRtHandle signature, std::size_t index, const char** name);
int LiteRtGetSignatureOutputTensorByIndex(LiteRtHandle signature, std::size_t index, LiteRtHandle* tensor);
int LiteRtGetRankedTensorType(LiteRtHandle tensor, LiteRtTensorType* type);

int LiteRtGetCompiledModelInputBufferRequirements(LiteRtHandle compiled, std::size_t signature, std::size_t index,
                                                  LiteRtHandle* requirements);
int LiteRtGetCompiledModelOutputBufferRequirements(LiteRtHandle compiled, std::size_t signature, std::size_t index,
                                                   LiteRtHandle* requirements);
int LiteRtCreateManagedTensorBufferFromRequirements(LiteRtHandle environment, const LiteRtTensorType* type,
                                                    LiteRtHandle requirements, LiteRtHandle* buffer);
int LiteRtLockTensorBuffer(LiteRtHandle buffer, void** memory, int mode);  // 0: to read, 1: to write
int LiteRtUnlockTensorBuffer(LiteRtHandle buffer);
int LiteRtRunCompiledModel(LiteRtHandle compiled, std::size_t signature, std::size_t inputs, LiteRtHandle* input,
                           std::size_t outputs, LiteRtHandle* output);
}
