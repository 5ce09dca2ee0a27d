// Checked access to the keys of a JSON object.
#pragma once

#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace vis4mer {

using Json = nlohmann::json;

// A value as error messages show it, cut if it is long.
std::string shown(const Json& value);

// A JSON object. `name` is for errors.
class Fields {
 public:
  // Accepts any keys. Throws BundleError if the value is not an object.
  Fields(const Json& value, std::string_view name);
  // Accepts `known` keys alone: another one might change their meaning. Throws BundleError.
  Fields(const Json& value, std::string_view name, std::initializer_list<std::string_view> known);

  // The value of a key; null if the key is absent.
  const Json* find(std::string_view key) const;
  // The value of a key. Throws BundleError if it is absent.
  const Json& at(std::string_view key) const;

  // An integer from 1 to `largest`. Throws BundleError.
  int64_t count(std::string_view key, std::optional<int64_t> otherwise = {}, int64_t largest = INT32_MAX) const;
  // The same, or nothing for null or an absent key.
  std::optional<int64_t> optional_count(std::string_view key) const;
  // A number in (0, `largest`]. Throws BundleError.
  double positive(std::string_view key, double otherwise, double largest) const;
  // One of some texts. Throws BundleError.
  std::string choice(std::string_view key, std::string_view otherwise,
                     std::initializer_list<std::string_view> choices) const;
  [[noreturn]] void refuse(std::string_view key, std::string_view rule) const;

 private:
  const Json& values_;
  std::string name_;
};

}  // namespace vis4mer
