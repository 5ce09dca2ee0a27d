#include "digest.h"

#include <openssl/evp.h>

#include <array>
#include <charconv>
#include <cmath>

#include "errors.h"
#include "vis4mer.h"

namespace vis4mer {
namespace {

// Writes a floating-point number as Python does: the fewest digits that denote it, in positional notation for exponents
// from -4 to 15. The JSON library writes other forms, and at times one digit too many.
std::string number(double value) {
  std::array<char, 32> text;
  const bool positional = value == 0 || (std::fabs(value) >= 1e-4 && std::fabs(value) < 1e16);
  const auto format = positional ? std::chars_format::fixed : std::chars_format::scientific;
  std::string result(text.data(), std::to_chars(text.data(), text.data() + text.size(), value, format).ptr);
  return positional && result.find('.') == std::string::npos ? result + ".0" : result;
}

// Appends JSON in UTF-8 with sorted keys and without spaces. Manifests are nested no deeper than their reader allows.
void append(const Json& value, std::string& text) {
  const char* separator = "";
  if (value.is_object()) {
    text += '{';
    for (const auto& [key, item] : value.items()) {  // sorted by the library
      text.append(separator).append(Json(key).dump()) += ':';
      append(item, text);
      separator = ",";
    }
    text += '}';
  } else if (value.is_array()) {
    text += '[';
    for (const Json& item : value) {
      text += separator;
      append(item, text);
      separator = ",";
    }
    text += ']';
  } else {
    text += value.is_number_float() ? number(value.get<double>()) : value.dump();
  }
}

}  // namespace

std::string sha256(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    fail<Error>("digest", std::string_view("sha256"), "OpenSSL cannot compute it");
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

std::string manifest_digest(const Json& manifest) {
  Json covered = manifest;
  covered.erase("digest");
  std::string text;
  append(covered, text);
  return sha256(text);
}

}  // namespace vis4mer
