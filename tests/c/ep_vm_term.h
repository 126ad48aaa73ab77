/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EP_VM_TERM_H
#define EP_VM_TERM_H

/* ep_vm_term - terms in the external format from and to text, for tests. */

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

extern "C" {
#include "ep_etf.h"
}

namespace term {

template <typename Write> std::string written(Write write)
{
    ep_buf buf;
    ep_buf_init(&buf, nullptr, 0, SIZE_MAX / 4);
    write(&buf);
    std::string bytes(reinterpret_cast<const char *>(buf.data), buf.length);
    ep_buf_finish(&buf);
    return bytes;
}

inline std::string integer(int64_t value)
{
    return written([&](ep_buf *b) { ep_etf_put_int(b, value); });
}

inline std::string real(double value)
{
    return written([&](ep_buf *b) { ep_etf_put_float(b, value); });
}

/* Digits in base 256, little-endian. */
inline std::string big(bool negative, const std::string &magnitude)
{
    return written([&](ep_buf *b) {
        ep_etf_put_big(b, negative, reinterpret_cast<const uint8_t *>(magnitude.data()),
                       static_cast<uint32_t>(magnitude.size()));
    });
}

inline std::string atom(const std::string &name)
{
    return written([&](ep_buf *b) { ep_etf_put_atom(b, name.data(), name.size()); });
}

inline std::string binary(const std::string &bytes)
{
    return written([&](ep_buf *b) { ep_etf_put_binary(b, bytes.data(), bytes.size()); });
}

inline std::string list(const std::vector<std::string> &items)
{
    return written([&](ep_buf *b) {
        if (!items.empty())
            ep_etf_put_list(b, static_cast<uint32_t>(items.size()));
        for (const auto &item : items)
            ep_buf_put(b, item.data(), item.size());
        ep_etf_put_nil(b);
    });
}

inline std::string tuple(const std::vector<std::string> &items)
{
    return written([&](ep_buf *b) {
        ep_etf_put_tuple(b, static_cast<uint32_t>(items.size()));
        for (const auto &item : items)
            ep_buf_put(b, item.data(), item.size());
    });
}

inline std::string map(const std::vector<std::pair<std::string, std::string>> &pairs)
{
    return written([&](ep_buf *b) {
        ep_etf_put_map(b, static_cast<uint32_t>(pairs.size()));
        for (const auto &pair : pairs) {
            ep_buf_put(b, pair.first.data(), pair.first.size());
            ep_buf_put(b, pair.second.data(), pair.second.size());
        }
    });
}

inline std::string handle(ep_handle_kind kind, const std::string &bytes)
{
    const uint8_t seal[EP_ETF_SEAL_SIZE] = {1, 2, 3, 4, 5, 6, 7, 8};
    return written(
        [&](ep_buf *b) { ep_etf_put_handle(b, kind, bytes.data(), bytes.size(), seal); });
}

/* Prints one term the way Erlang would, roughly. */
inline std::string print(ep_etf_cursor *cursor)
{
    ep_etf_token t;
    if (ep_etf_next(cursor, &t) < 0)
        return "<not a term>";
    std::string data(reinterpret_cast<const char *>(t.data), t.data == nullptr ? 0 : t.count);
    std::string text;
    auto elements = [&](uint32_t count) {
        for (uint32_t i = 0; i < count; i++)
            text += (i == 0 ? "" : ",") + print(cursor);
    };
    switch (t.type) {
    case EP_ETF_INT: return std::to_string(t.integer);
    case EP_ETF_BIG:
        text = t.negative ? "big-" : "big+";
        for (unsigned char c : data) {
            char hex[3];
            snprintf(hex, sizeof(hex), "%02x", c);
            text += hex;
        }
        return text;
    case EP_ETF_FLOAT: {
        char digits[40];
        snprintf(digits, sizeof(digits), "%.17gf", t.real);
        return digits;
    }
    case EP_ETF_ATOM: return data;
    case EP_ETF_BINARY: return "\"" + data + "\"";
    case EP_ETF_LIST:
        text = "[";
        elements(t.count);
        return ep_etf_list_end(cursor) < 0 ? "<improper>" : text + "]";
    case EP_ETF_NIL: return "[]";
    case EP_ETF_STRING: return "string:" + data;
    case EP_ETF_TUPLE:
        text = "{";
        elements(t.count);
        return text + "}";
    case EP_ETF_MAP:
        text = "#{";
        for (uint32_t i = 0; i < t.count; i++) {
            text += (i == 0 ? "" : ",") + print(cursor);
            text += "=>" + print(cursor);
        }
        return text + "}";
    case EP_ETF_HANDLE:
        return (t.kind == EP_HANDLE_PID ? "pid:" : "ref:") + data + ":" + std::to_string(t.seal[7]);
    }
    return "?";
}

/* All terms of a payload, separated by blanks. */
inline std::string print_all(const std::string &bytes)
{
    ep_etf_cursor cursor;
    std::string text;
    ep_etf_cursor_init(&cursor, bytes.data(), bytes.size());
    while (cursor.at != cursor.end) {
        const uint8_t *before = cursor.at;
        text += (text.empty() ? "" : " ") + print(&cursor);
        if (cursor.at == before)
            return text + " <rubbish>";
    }
    return text;
}

} // namespace term

#endif
