#include "fields.h"

#include <algorithm>

#include "errors.h"
#include "vis4mer.h"

namespace vis4mer {
namespace {

constexpr size_t kShownCharacters = 200;

std::string joined(std::initializer_list<std::string_view> names) {
  std::string text;
  for (const std::string_view name : names) {
    text += (text.empty() ? "" : ", ") + std::string(name);
  }
  return text;
}

}  // namespace

std::string shown(const Json& value) {
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= kShownCharacters ? text : text.substr(0, kShownCharacters) + "...";
}

Fields::Fields(const Json& value, std::string_view name) : values_(value), name_(name) {
  if (!value.is_object()) {
    fail<BundleError>(name_, shown(value), "must be a JSON object", "export the bundle again");
  }
}

Fields::Fields(const Json& value, std::string_view name, std::initializer_list<std::string_view> known)
    : Fields(value, name) {
  for (const auto& [key, item] : value.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      fail<BundleError>("key", quote(key), name_ + " has the keys " + joined(known), "update this library");
    }
  }
}

const Json* Fields::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &*found;
}

const Json& Fields::at(std::string_view key) const {
  if (const Json* value = find(key)) {
    return *value;
  }
  fail<BundleError>("key", quote(key), "the manifest's " + name_ + " lacks it", "export the bundle again");
}

int64_t Fields::count(std::string_view key, std::optional<int64_t> otherwise, int64_t largest) const {
  const Json* value = otherwise ? find(key) : &at(key);
  if (value == nullptr) {
    return *otherwise;
  }
  // JSON's unsigned numbers may exceed int64_t, and true and 1.0 are no integers.
  if (!value->is_number_unsigned() || value->get<uint64_t>() < 1 ||
      value->get<uint64_t>() > static_cast<uint64_t>(largest)) {
    refuse(key, "must be an integer from 1 to " + std::to_string(largest));
  }
  return value->get<int64_t>();
}

std::optional<int64_t> Fields::optional_count(std::string_view key) const {
  const Json* value = find(key);
  return value == nullptr || value->is_null() ? std::optional<int64_t>() : count(key);
}

double Fields::positive(std::string_view key, double otherwise, double largest) const {
  const Json* value = find(key);
  if (value == nullptr) {
    return otherwise;
  }
  if (!value->is_number() || !(value->get<double>() > 0 && value->get<double>() <= largest)) {
    refuse(key, "must be positive, and at most " + Json(largest).dump());
  }
  return value->get<double>();
}

std::string Fields::choice(std::string_view key, std::string_view otherwise,
                           std::initializer_list<std::string_view> choices) const {
  const Json* value = otherwise.empty() ? &at(key) : find(key);
  if (value == nullptr) {
    return std::string(otherwise);
  }
  if (!value->is_string() || std::find(choices.begin(), choices.end(), value->get<std::string>()) == choices.end()) {
    refuse(key, "must be one of " + joined(choices));
  }
  return value->get<std::string>();
}

void Fields::refuse(std::string_view key, std::string_view rule) const {
  fail<BundleError>(name_ + "." + std::string(key), shown(at(key)), rule, "export the bundle again");
}

}  // namespace vis4mer
