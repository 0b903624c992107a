// How the shim's functions turn a C++ exception into an error text.
#pragma once

#include <cstddef>
#include <cstdio>
#include <exception>

// Runs `call`; if it throws, writes the exception's text and returns `fallback`.
template <typename Result, typename Call>
Result guarded(Result fallback, char * error, std::size_t error_size, Call call) {
    try {
        return call();
    } catch (const std::exception & exception) {
        std::snprintf(error, error_size, "%s", exception.what());
    } catch (...) {
        std::snprintf(error, error_size, "unknown C++ exception");
    }
    return fallback;
}
