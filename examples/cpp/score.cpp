// Scores rows with a bundle's TFLite scorer in C++: raw units in; error and verdict out.
//
//   score pump.edgeae [int8] < rows.txt      one row of numbers a line, separated by blanks
//
// See README.md beside it for how to build.

#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "litert.h"

static void check(int status, const char* what) {
  if (status != 0) throw std::runtime_error(std::string(what) + ": LiteRT says " + std::to_string(status));
}

class Scorer {
 public:
  Scorer(const std::string& path, const std::vector<int>& shape) {
    LiteRtHandle model, options, signature, tensor;
    check(LiteRtCreateEnvironment(0, nullptr, &environment_), "environment");
    check(LiteRtCreateModelFromFile(environment_, path.c_str(), &model), path.c_str());
    check(LiteRtCreateOptions(&options), "options");
    check(LiteRtSetOptionsHardwareAccelerators(options, 1), "CPU");
    check(LiteRtCreateCompiledModel(environment_, model, options, &compiled_), "model");

    // The batch axis is dynamic: make it one row, once. Tensors are found by name, never by index.
    check(LiteRtGetModelSignature(model, 0, &signature), "signature");
    check(LiteRtGetSignatureInputTensor(signature, "input", &tensor), "input");
    LiteRtTensorType type{};
    check(LiteRtGetRankedTensorType(tensor, &type), "input");
    std::vector<int> dimensions(type.dimensions, type.dimensions + type.rank);
    dimensions[0] = 1;
    check(LiteRtCompiledModelResizeInputTensor(compiled_, 0, 0, dimensions.data(), dimensions.size()), "resize");
    size_ = 1;
    for (int n : dimensions) size_ *= n;
    std::size_t wanted = 1;
    for (int n : shape) wanted *= n;
    if (size_ != wanted) throw std::runtime_error("the model's input is not that of the manifest");
    input_ = buffer(tensor, true, 0);

    std::size_t count;
    check(LiteRtGetNumSignatureOutputs(signature, &count), "outputs");
    for (std::size_t i = 0; i < count; ++i) {
      const char* name;
      check(LiteRtGetSignatureOutputName(signature, i, &name), "outputs");
      check(LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor), name);
      if (std::string(name) == "error") error_ = i;
      outputs_.push_back(buffer(tensor, false, i));
    }
  }

  std::size_t size() const { return size_; }

  float score(const std::vector<float>& row) {
    void* memory;
    check(LiteRtLockTensorBuffer(input_, &memory, 1), "input");
    std::memcpy(memory, row.data(), size_ * sizeof(float));
    check(LiteRtUnlockTensorBuffer(input_), "input");
    check(LiteRtRunCompiledModel(compiled_, 0, 1, &input_, outputs_.size(), outputs_.data()), "run");
    float error;
    check(LiteRtLockTensorBuffer(outputs_[error_], &memory, 0), "error");
    std::memcpy(&error, memory, sizeof error);
    check(LiteRtUnlockTensorBuffer(outputs_[error_]), "error");
    return error;
  }

 private:
  LiteRtHandle buffer(LiteRtHandle tensor, bool is_input, std::size_t index) {
    LiteRtTensorType type{};
    LiteRtHandle requirements, made;
    check(LiteRtGetRankedTensorType(tensor, &type), "tensor");
    type.dimensions[0] = 1;
    check(is_input ? LiteRtGetCompiledModelInputBufferRequirements(compiled_, 0, index, &requirements)
                   : LiteRtGetCompiledModelOutputBufferRequirements(compiled_, 0, index, &requirements),
          "buffer");
    check(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, requirements, &made), "buffer");
    return made;
  }

  LiteRtHandle environment_{}, compiled_{}, input_{};
  std::vector<LiteRtHandle> outputs_;
  std::size_t size_ = 0, error_ = 0;
};

int main(int argc, char** argv) try {
  if (argc < 2) throw std::runtime_error("usage: score BUNDLE [PRECISION] < rows.txt");
  const std::string bundle = argv[1], precision = argc > 2 ? argv[2] : "int8";
  std::ifstream file(bundle + "/manifest.json");
  if (!file) throw std::runtime_error(bundle + ": no manifest.json; unpack the bundle where it is a zip file");
  const auto manifest = nlohmann::json::parse(file);
  if (manifest.at("format_version") > 2) throw std::runtime_error("a bundle of a newer format");

  for (const auto& artifact : manifest.at("artifacts")) {
    if (artifact.at("role") != "scorer" || artifact.at("format") != "tflite") continue;
    if (artifact.at("precision") != precision) continue;
    const double threshold = artifact.at("threshold").at("value");  // each artifact has its own
    Scorer scorer(bundle + "/" + artifact.at("path").get<std::string>(), manifest.at("input").at("shape"));
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      std::vector<float> row;
      for (float value; words >> value;) row.push_back(value);
      if (row.size() != scorer.size()) throw std::runtime_error("a row is of another length");
      const double error = scorer.score(row);
      std::cout << nlohmann::json{{"error", error}, {"threshold", threshold}, {"anomaly", error > threshold}} << "\n";
    }
    return 0;
  }
  throw std::runtime_error(bundle + ": has no TFLite scorer of precision " + precision);
} catch (const std::exception& error) {
  std::cerr << "Error: " << error.what() << "\n";
  return 1;
}
