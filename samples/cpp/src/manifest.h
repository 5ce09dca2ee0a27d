// Reads and checks manifest.json.
#pragma once

#include <filesystem>

#include "vis4mer.h"

namespace vis4mer {

inline constexpr char kEncoder[] = "encoder";

// Throws BundleError: there is no manifest, it does not match its digest, or it breaks the schema.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace vis4mer
