/* Numbers as text, exactly as Python writes them.

   The fraction of a double is taken apart into `limbs`, digits in base 2^32; multiplying it by ten gives the next
   decimal digit. */
#include "output.h"

enum { LIMBS = 35 /* for the smallest double, 2^-1074 */ };

struct fraction {
    uint32_t limbs[LIMBS];
};

static void split(double fraction, struct fraction *parts) {
    for (int i = 0; i < LIMBS; i++) {
        fraction *= 4294967296.0;
        parts->limbs[i] = (uint32_t)fraction;
        fraction -= parts->limbs[i];
    }
}

static int next_digit(struct fraction *parts) {
    uint64_t carry = 0;
    for (int i = LIMBS - 1; i >= 0; i--) {
        carry += (uint64_t)parts->limbs[i] * 10;
        parts->limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return (int)carry;
}

/* Whether what is left is more than one half, or exactly one half after an odd digit. */
static bool rounds_up(const struct fraction *parts, int64_t last) {
    const uint32_t half = 1u << 31;
    if (parts->limbs[0] != half)
        return parts->limbs[0] > half;
    for (int i = 1; i < LIMBS; i++)
        if (parts->limbs[i])
            return true;
    return last & 1;
}

static int digits_of(int64_t value) {
    int count = 1;
    for (; value >= 10; value /= 10)
        count++;
    return count;
}

static int64_t power_of_ten(int exponent) {
    int64_t power = 1;
    while (exponent-- > 0)
        power *= 10;
    return power;
}

void put_integer(struct output *out, int64_t value, int digits) {
    char text[24];
    int count = 0;
    for (; value || count < digits; value /= 10)
        text[count++] = (char)('0' + value % 10);
    while (count)
        put(out, text[--count]);
}

void put_fixed(struct output *out, double value, int decimals, int width) {
    int64_t whole = (int64_t)value, digits = 0, power = power_of_ten(decimals);
    struct fraction rest;
    split(value - (double)whole, &rest);
    for (int i = 0; i < decimals; i++)
        digits = digits * 10 + next_digit(&rest);
    if (rounds_up(&rest, digits) && ++digits == power) {
        whole++;
        digits = 0;
    }
    for (int length = digits_of(whole) + 1 + decimals; length < width; length++)
        put(out, ' ');
    put_integer(out, whole, 1);
    put(out, '.');
    put_integer(out, digits, decimals);
}

/* digits * 10^exponent as Python's repr for a number below 1e16 with these digits. */
static void put_scaled(struct output *out, int64_t digits, int exponent) {
    if (!digits)
        exponent = -1;
    for (; digits && digits % 10 == 0; digits /= 10)
        exponent++;
    for (; exponent > -1; exponent--)
        digits *= 10;
    int length = digits_of(digits), first = length - 1 + exponent;
    if (digits && first < -4) {
        int64_t lead = power_of_ten(length - 1);
        put_integer(out, digits / lead, 1);
        if (length > 1) {
            put(out, '.');
            put_integer(out, digits % lead, length - 1);
        }
        put_text(out, "e-");
        put_integer(out, -first, 2);
        return;
    }
    int64_t power = power_of_ten(-exponent < 18 ? -exponent : 18);
    put_integer(out, digits / power, 1);
    put(out, '.');
    put_integer(out, digits % power, -exponent);
}

/* Half the distance from a positive number to the next one. */
static double half_step(double value) {
    double power = 1;
    while (power > value)
        power /= 2;
    while (power * 2 <= value)
        power *= 2;
    return power / 9007199254740992.0;
}

void put_seconds(struct output *out, int64_t samples, int64_t rate) {
    double value = (double)samples / (double)rate, half = half_step(value ? value : 1);
    int64_t digits = (int64_t)value;
    struct fraction rest;
    split(value - (double)digits, &rest);
    /* the fewest decimals of which no other number is nearer to the digits */
    for (int decimals = 0;; decimals++, half *= 10) {
        double left = (double)rest.limbs[0] / 4294967296.0 + (double)rest.limbs[1] / 18446744073709551616.0;
        if (left <= half || 1 - left <= half) {
            put_scaled(out, digits + (left > 0.5), -decimals);
            return;
        }
        digits = digits * 10 + next_digit(&rest);
    }
}

void put_duration(struct output *out, double value) {
    int64_t digits = (int64_t)value;
    struct fraction rest;
    split(value - (double)digits, &rest);
    for (int i = 0; i < 9; i++)
        digits = digits * 10 + next_digit(&rest);
    put_scaled(out, digits + rounds_up(&rest, digits), -9);
}

void put_score(struct output *out, double value) {
    if (value >= 1.0 || value == 0.0) {
        put_scaled(out, (int64_t)value, 0);
        return;
    }
    struct fraction rest;
    split(value, &rest);
    int64_t digits = next_digit(&rest);
    int exponent = -1;
    while (!digits) {
        digits = next_digit(&rest);
        exponent--;
    }
    for (int i = 0; i < 5; i++, exponent--)
        digits = digits * 10 + next_digit(&rest);
    put_scaled(out, digits + rounds_up(&rest, digits), exponent);
}
