// Messages of one line: name=value: rule; remedy.
#pragma once

#include <string>
#include <string_view>

namespace vis4mer {

// Quotes text as JSON does, so that control characters and line breaks in it stay on one line.
std::string quote(std::string_view text);

// A library's message without its line breaks and backtrace, cut to a length that a log shows on one line.
std::string first_line(std::string_view message);

template <class E>
[[noreturn]] void fail(std::string_view name, std::string_view value, std::string_view rule,
                       std::string_view remedy = "") {
  std::string message = std::string(name) + "=" + std::string(value) + ": " + std::string(rule);
  if (!remedy.empty()) {
    message += "; " + std::string(remedy);
  }
  throw E(message);
}

}  // namespace vis4mer
