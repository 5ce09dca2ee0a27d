#include "errors.h"

#include <nlohmann/json.hpp>

namespace vis4mer {
namespace {

constexpr size_t kShownCharacters = 300;

}  // namespace

std::string quote(std::string_view text) {
  using json = nlohmann::json;
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string first_line(std::string_view message) {
  const size_t start = message.find_first_not_of(" \t\r\n");
  if (start == std::string_view::npos) {
    return "no reason was given";
  }
  message.remove_prefix(start);
  message = message.substr(0, message.find_first_of("\r\n"));
  return std::string(message.substr(0, kShownCharacters));
}

}  // namespace vis4mer
