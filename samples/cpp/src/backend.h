// The interface of the backends.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "device.h"
#include "vis4mer.h"

namespace vis4mer {

// A graph as a backend opens it. Most formats are programs: whoever makes this has checked the digests.
struct Graph {
  std::string name;  // "encoder" or a head's name, for errors
  std::string file;  // name of the graph's file
  std::string format;
  GraphInterface interface;
  std::string bytes;
  std::map<std::string, std::string> companions;  // content of other files that belong to it, by name
};

// One graph on one backend and device; several threads may call it.
class Runner {
 public:
  virtual ~Runner() = default;
  // Computes `output` from `input`, which hold `batch` rows of the graph's interface each, and waits until it is done.
  // Throws DeviceError, or BundleError for a result that is not what the interface states.
  virtual void run(const void* input, Memory input_in, void* output, Memory output_in, int64_t batch) = 0;
};

// Each throws BundleError if the graph cannot be loaded or has another interface, DeviceError for the device.
std::unique_ptr<Runner> open_torch(const Graph& graph, const Device& device);
std::unique_ptr<Runner> open_onnxruntime(const Graph& graph, const Device& device);
std::unique_ptr<Runner> open_tensorrt(const Graph& graph, const Device& device);

// Opens a graph with the backend of its format. Throws DeviceError if this build has none.
std::unique_ptr<Runner> open_runner(const Graph& graph, const Device& device);

// A shape as error messages show it: [8, 17, 64].
std::string shown(int64_t batch, const TensorSpec& spec);

}  // namespace vis4mer
