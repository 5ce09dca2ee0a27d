// SHA-256 digests, in hexadecimal.
#pragma once

#include <string>
#include <string_view>

#include "fields.h"

namespace vis4mer {

std::string sha256(std::string_view bytes);

// Digest of a manifest's entries other than "digest", as docs/reference/manifest.md defines it.
std::string manifest_digest(const Json& manifest);

}  // namespace vis4mer
