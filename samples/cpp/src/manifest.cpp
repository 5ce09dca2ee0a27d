#include "manifest.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

#include "digest.h"
#include "errors.h"
#include "fields.h"
#include "model_config.h"

namespace vis4mer {
namespace {

constexpr char kFileName[] = "manifest.json";
constexpr uint64_t kMaxBytes = 16 << 20;  // a manifest is read whole before its content can be trusted
constexpr int kMaxDepth = 100;            // deeper nesting could exhaust the stack
constexpr char kExportAgain[] = "export the bundle again";

std::string read_text(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {  // checked before opening: reading a FIFO would block
    fail<BundleError>("bundle", quote(path.parent_path().string()),
                      "holds no manifest.json; a bundle is a folder that vis4mer exports");
  }
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (!error && size > kMaxBytes) {
    fail<BundleError>("file", quote(path.string()), "must be at most 16 MiB, as every manifest is");
  }
  std::string text(error ? 0 : size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), static_cast<std::streamsize>(text.size()))) {
    fail<BundleError>("file", quote(path.string()), "cannot be read", "check its permissions");
  }
  return text;
}

Json parse(const std::filesystem::path& path) {
  const auto within_depth = [](int depth, Json::parse_event_t, const Json&) {
    if (depth > kMaxDepth) {
      throw std::length_error("nested too deeply");
    }
    return true;
  };
  Json values;
  try {
    values = Json::parse(read_text(path), within_depth);
  } catch (const Json::exception&) {
    values = nullptr;
  } catch (const std::length_error&) {
    values = nullptr;
  }
  if (!values.is_object()) {
    fail<BundleError>("file", quote(path.string()), "is not a JSON object", kExportAgain);
  }
  return values;
}

uint64_t require_version(const std::filesystem::path& path, const Json& values) {
  const Json version = values.value("schema_version", Json());
  if (!version.is_number_unsigned() || version.get<uint64_t>() < 1 || version.get<uint64_t>() > 3) {
    fail<BundleError>("schema_version", shown(version), "this library reads versions 1, 2 and 3",
                      "export " + quote(path.parent_path().string()) + " again, or update this library");
  }
  // A digest is checked wherever there is one: changing the version alone does not switch the check off.
  const bool has_digest = version.get<uint64_t>() >= 3 || values.contains("digest");
  if (has_digest && values.value("digest", Json()) != Json(manifest_digest(values))) {
    fail<BundleError>("file", quote(path.string()),
                      "its content does not match its own digest, so it was altered after the export",
                      "copy the bundle again, or export it again");
  }
  return version.get<uint64_t>();
}

// Checks a file's name: slashes and a leading dot would lead out of the folder, or hide the file.
void require_file_name(const std::string& name) {
  const auto alphanumeric = [](unsigned char c) { return c < 128 && std::isalnum(c) != 0; };
  const auto allowed = [&](unsigned char c) { return alphanumeric(c) || c == '.' || c == '_' || c == '-'; };
  const bool plain = !name.empty() && alphanumeric(static_cast<unsigned char>(name[0])) &&
                     std::all_of(name.begin(), name.end(), allowed);
  if (!plain || name == kFileName) {
    fail<BundleError>("file", quote(name), "must be a plain name of letters, digits, '.', '_' and '-'", kExportAgain);
  }
}

FileRecord read_record(const std::string& name, const Json& value) {
  require_file_name(name);
  const Json object = value.is_object() ? value : Json::object();
  const Json sha256 = object.value("sha256", Json()), bytes = object.value("bytes", Json());
  const auto hexadecimal = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  const std::string digest = sha256.is_string() ? sha256.get<std::string>() : "";
  if (digest.size() != 64 || !std::all_of(digest.begin(), digest.end(), hexadecimal) || !bytes.is_number_unsigned()) {
    fail<BundleError>("file", quote(name), "the manifest's digest or size of it is malformed", kExportAgain);
  }
  return {digest, bytes.get<uint64_t>()};
}

// Length that a head was exported for: stated by the manifest without encoder and in version 1, or else the window's.
int64_t head_length(const Json& values, uint64_t version, const std::string& head, const ModelConfig& model) {
  if (version > 1 && model.encoder) {
    return model.window_length();
  }
  const std::string path = version == 1 ? "/lowering/" + head + "/length" : "/interface/" + head + "/inputs/0/axes/1";
  Json length;
  try {
    length = values.at(Json::json_pointer(path));
  } catch (const Json::exception&) {
    // Nothing has checked the form of these entries; anything but an integer is ignored.
  }
  const bool stated = length.is_number_unsigned() && length.get<uint64_t>() >= 1 && length.get<uint64_t>() <= INT32_MAX;
  return stated ? length.get<int64_t>() : model.window_length();
}

Json to_json(const TensorSpec& spec) {
  Json axes = Json::array({"batch"});
  for (const int64_t size : spec.sizes) {
    axes.push_back(size);
  }
  return {{"name", spec.name}, {"dtype", spec.dtype}, {"axes", std::move(axes)}};
}

GraphInterface read_interface(const Json& values, uint64_t version, const std::string& graph,
                              const ModelConfig& model) {
  const int64_t length = graph == kEncoder ? 0 : head_length(values, version, graph, model);
  GraphInterface derived = model.interface(graph, length);
  if (version == 1) {
    return derived;
  }
  const Json& stated = values.at("interface");
  if (!stated.is_object() || !stated.contains(graph)) {
    fail<BundleError>("graph", quote(graph), "the manifest states no interface of it", kExportAgain);
  }
  Json expected;
  expected["inputs"] = Json::array({to_json(derived.input)});
  expected["outputs"] = Json::array({to_json(derived.output)});
  // Compared as text, because 64.0 equals 64 as a value.
  if (stated.at(graph).dump() != expected.dump()) {
    fail<BundleError>(
        "graph", quote(graph),
        "the manifest states the interface " + shown(stated.at(graph)) + ", but its model has " + shown(expected),
        kExportAgain);
  }
  return derived;
}

}  // namespace

Manifest read_manifest(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kFileName;
  const Json values = parse(path);
  const uint64_t version = require_version(path, values);
  const Fields fields(values, "manifest");
  for (const char* key : {"files", "tools", "parity", "lowering", "interface"}) {
    if ((version > 1 || std::string_view(key) != "interface") && !fields.at(key).is_object()) {
      fields.refuse(key, "must be a JSON object");
    }
  }
  const ModelConfig model = read_model(fields.at("model"));
  Manifest manifest;
  manifest.format = fields.choice("format", "", {"onnx", "torchscript", "pt2", "trt", "trt-rtx"});
  manifest.precision = fields.choice("precision", "", {"fp32", "fp16", "bf16"});
  manifest.preprocessing = model.preprocessing;
  manifest.windows = model.windows;
  manifest.window_frames = model.window_frames;
  manifest.heads = model.heads;
  if (model.encoder) {
    manifest.interfaces[kEncoder] = read_interface(values, version, kEncoder, model);
  }
  for (const auto& [head, config] : model.heads) {
    manifest.interfaces[head] = read_interface(values, version, head, model);
  }
  for (const auto& [name, record] : fields.at("files").items()) {
    manifest.files[name] = read_record(name, record);
  }
  return manifest;
}

}  // namespace vis4mer
