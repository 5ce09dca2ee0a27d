#include <fstream>

#include "digest.h"
#include "errors.h"
#include "manifest.h"
#include "vis4mer.h"

namespace vis4mer {

Bundle::Bundle(const std::filesystem::path& folder) : folder_(folder), manifest_(read_manifest(folder)) {
  // A graph without its file is reported now, not when the graph is first needed.
  for (const auto& [graph, interface] : manifest_.interfaces) {
    file_of(graph);
  }
}

const std::string& Bundle::file_of(const std::string& graph) const {
  const std::string* found = nullptr;
  for (const auto& [name, record] : manifest_.files) {
    // A companion such as encoder.onnx.data does not match: without its last suffix it is named encoder.onnx.
    if (name.substr(0, name.rfind('.')) != graph || name == graph) {
      continue;
    }
    if (found != nullptr) {
      found = nullptr;
      break;
    }
    found = &name;
  }
  if (found == nullptr) {
    fail<BundleError>("bundle", quote(folder_.string()), "the manifest must list exactly one file " + graph + ".*",
                      "export the bundle again");
  }
  return *found;
}

std::string Bundle::read(const std::string& name) const {
  const auto listed = manifest_.files.find(name);
  if (listed == manifest_.files.end()) {
    fail<BundleError>("bundle", quote(folder_.string()), "the manifest lists no file " + quote(name));
  }
  const std::filesystem::path path = folder_ / name;
  const FileRecord& record = listed->second;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {  // checked before opening: reading a FIFO would block
    fail<BundleError>("file", quote(path.string()), "is missing", "copy the whole bundle, or export it again");
  }
  // A file of the wrong size is rejected without being read into memory, however large it is.
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size != record.bytes) {
    fail<BundleError>(
        "file", quote(path.string()),
        "has " + std::to_string(error ? 0 : size) + " bytes, but the manifest states " + std::to_string(record.bytes),
        "copy the bundle again");
  }
  std::string bytes(record.bytes, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    fail<BundleError>("file", quote(path.string()), "cannot be read", "check its permissions");
  }
  // The bytes that are hashed are the bytes that are returned: a file that changes in between cannot escape the check.
  if (const std::string digest = sha256(bytes); digest != record.sha256) {
    fail<BundleError>(
        "file", quote(path.string()),
        "has sha256 " + digest.substr(0, 12) + "..., but the manifest states " + record.sha256.substr(0, 12) + "...",
        "copy the bundle again");
  }
  return bytes;
}

void Bundle::verify() const {
  for (const auto& [name, record] : manifest_.files) {
    read(name);
  }
}

}  // namespace vis4mer
