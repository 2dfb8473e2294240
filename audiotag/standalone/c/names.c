/* File names: UTF-8 as Python reads it, escapes for terminals and JSON. */
#include "output.h"
#include "program.h"

/* The character at a place, and its bytes; a byte that is not UTF-8 is U+DC00 + byte, as in Python. `name` ends with a
   NUL, which is no continuation byte. */
static int32_t character(const char *name, int *length) {
    const unsigned char *at = (const unsigned char *)name;
    int first = at[0], count = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    *length = 1;
    if (count == 1)
        return first;
    int32_t code = first & 0x7F >> count;
    bool valid = first >= 0xC2 && first <= 0xF4;
    for (int i = 1; valid && i < count; i++) {
        valid = (at[i] & 0xC0) == 0x80;
        code = code << 6 | (at[i] & 0x3F);
    }
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (!valid || code < least[count] || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF)
        return 0xDC00 + first;
    *length = count;
    return code;
}

/* As Python's str.isprintable. */
static bool is_printable(int32_t code) {
    int64_t low = 0, high = facts.edge_count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (facts.edges[middle] <= code)
            low = middle + 1;
        else
            high = middle;
    }
    return low % 2 == 0;
}

static void put_hex(struct output *out, uint32_t value, int digits) {
    while (digits-- > 0)
        put(out, "0123456789abcdef"[value >> 4 * digits & 15]);
}

/* As Python's unicode_escape; within JSON the backslash is doubled. */
static void put_escape(struct output *out, int32_t code, bool quoted) {
    put_text(out, quoted ? "\\\\" : "\\");
    if (code == '\t' || code == '\n' || code == '\r') {
        put(out, code == '\t' ? 't' : code == '\n' ? 'n' : 'r');
        return;
    }
    int digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
    put(out, digits == 2 ? 'x' : digits == 4 ? 'u' : 'U');
    put_hex(out, (uint32_t)code, digits);
}

static void put_utf8(struct output *out, int32_t code) {
    if (code < 0x80) {
        put(out, code);
        return;
    }
    int length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    put(out, (0xF00 >> length & 0xFF) | code >> 6 * (length - 1));
    for (int i = length - 2; i >= 0; i--)
        put(out, 0x80 | (code >> 6 * i & 0x3F));
}

static void put_unit(struct output *out, int32_t unit) {
    put_text(out, "\\u");
    put_hex(out, (uint32_t)unit, 4);
}

/* Within a JSON string; everything that is not printable is escaped. */
static void put_json(struct output *out, int32_t code) {
    static const char escaped[] = "\"\\\b\t\n\f\r", letters[] = "\"\\btnfr";
    for (int i = 0; escaped[i]; i++)
        if (code == escaped[i]) {
            put(out, '\\');
            put(out, letters[i]);
            return;
        }
    if (is_printable(code)) {
        put_utf8(out, code);
    } else if (code < 0x10000) {
        put_unit(out, code);
    } else {
        put_unit(out, 0xD800 + ((code - 0x10000) >> 10));
        put_unit(out, 0xDC00 + ((code - 0x10000) & 0x3FF));
    }
}

void put_name(struct output *out, const char *name, bool shown, bool quoted) {
    for (int length; *name; name += length) {
        int32_t code = character(name, &length);
        if (shown && !is_printable(code))
            put_escape(out, code, quoted);
        else if (quoted)
            put_json(out, code);
        else
            put_utf8(out, code);
    }
}
