/* The command line. */
#include "options.h"
#include "program.h"

enum option { HELP, SHORT_HELP, VERSION, JSON, TOP, THRESHOLD, WINDOW, HOP, RAW, RATE, CHANNELS, UNKNOWN };

static const char *const option_names[] = {
    [HELP] = "--help", [SHORT_HELP] = "-h", [VERSION] = "--version", [JSON] = "--json", [TOP] = "--top",
    [THRESHOLD] = "--threshold", [WINDOW] = "--window", [HOP] = "--hop", [RAW] = "--raw", [RATE] = "--rate",
    [CHANNELS] = "--channels",
};

static bool is_text(const char *text, const char *other) {
    while (*text && *text == *other)
        text++, other++;
    return *text == *other;
}

/* Whether the first `length` bytes of an argument are a text. */
static bool starts_as(const char *argument, int64_t length, const char *text) {
    int64_t i = 0;
    while (i < length && text[i] && argument[i] == text[i])
        i++;
    return i == length && !text[i];
}

/* An integer of at most 15 digits; -1 if the text is none. */
static int64_t whole_number(const char *text) {
    int64_t value = 0;
    int digits = 0;
    for (; *text; text++, digits++) {
        if (*text < '0' || *text > '9' || digits == 15)
            return -1;
        value = value * 10 + (*text - '0');
    }
    return digits ? value : -1;
}

static const double LARGEST_NUMBER = 1.7976931348623157e308; /* infinity is none */

double real_number(const char *text) {
    int64_t value = 0, exponent = 0;
    bool point = false, any = false;
    for (; (*text == '.' && !point) || (*text >= '0' && *text <= '9'); text++) {
        if (*text == '.') {
            point = true;
            continue;
        }
        any = true;
        if (value < 100000000000000000) {
            value = value * 10 + (*text - '0');
            exponent -= point;
        } else {
            exponent += !point;
        }
    }
    if (any && (*text == 'e' || *text == 'E')) {
        bool negative = *++text == '-';
        text += *text == '-' || *text == '+';
        int64_t power = whole_number(text);
        if (power < 0)
            return -1;
        power = power < 400 ? power : 400;
        exponent += negative ? -power : power;
        text = "";
    }
    if (!any || *text)
        return -1;
    double scale = 1;
    for (int64_t i = exponent < 0 ? -exponent : exponent; i > 0 && value; i--)
        scale *= 10;
    double number = exponent < 0 ? (double)value / scale : (double)value * scale;
    return number <= LARGEST_NUMBER ? number : -1;
}

/* Apply an option that takes a value; return what is wrong with it, or NULL. */
static const char *apply_value(struct options *options, enum option option, const char *value) {
    switch (option) {
    case TOP:
        options->top = whole_number(value);
        return options->top < 1 ? "a number of at least 1 must follow" : NULL;
    case RATE:
        options->raw_rate = whole_number(value);
        return options->raw_rate < MIN_RATE || options->raw_rate > MAX_RATE ? WRONG_RATE : NULL;
    case CHANNELS:
        options->raw_channels = whole_number(value);
        return options->raw_channels < 1 || options->raw_channels > MAX_CHANNELS ? WRONG_CHANNELS : NULL;
    case RAW:
        options->raw_encoding = is_text(value, "f32le") ? FLOAT_32 : is_text(value, "s16le") ? SIGNED_16 : 0;
        return options->raw_encoding ? NULL : "f32le or s16le must follow";
    case THRESHOLD:
        options->threshold = real_number(value);
        return options->threshold >= 0 && options->threshold <= 1 ? NULL : "a number from 0 to 1 must follow";
    case HOP:
        options->hop = real_number(value);
        return options->hop >= MIN_HOP ? NULL : WRONG_HOP;
    default:
        options->window_seconds = real_number(value);
        return options->window_seconds >= MIN_WINDOW && options->window_seconds <= facts.longest ? NULL
                                                                                                 : facts.wrong_window;
    }
}

static bool refuse(struct output *error, const char *argument, int64_t length, const char *text) {
    put_text(error, PROGRAM);
    for (int64_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)argument[i];
        /* control characters could contain commands for the terminal */
        put(error, byte < 32 || byte == 127 ? '?' : byte);
    }
    put_text(error, length ? ": " : "");
    put_text(error, text);
    put_text(error, " (--help says more)\n");
    return false;
}

/* The fault of options that don't go together, or NULL. */
static const char *contradiction(const struct options *options, bool hop, bool rate) {
    int from_stdin = 0;
    for (int i = 0; i < options->name_count; i++)
        from_stdin += is_text(options->names[i], "-");
    if (!options->name_count)
        return "no file is given";
    if (from_stdin > 1)
        return "standard input (-) is given twice";
    if (hop && !options->window_seconds)
        return "--hop needs --window";
    if (!options->raw_encoding)
        return rate ? "--rate and --channels need --raw: files contain their own rate and channels" : NULL;
    if (options->name_count > 1 || !from_stdin)
        return "--raw reads standard input: - must be the only file";
    return options->raw_rate ? NULL : "--raw needs --rate";
}

bool parse_options(int count, char **arguments, struct options *options, struct output *error) {
    bool only_names = false, hop = false, rate = false;
    *options = (struct options){.raw_channels = 1, .top = 10, .threshold = -1, .names = arguments};
    for (int i = 1; i < count; i++) {
        char *argument = arguments[i];
        if (only_names || argument[0] != '-' || !argument[1]) {
            /* names take the places of arguments that have been parsed */
            options->names[options->name_count++] = argument;
            continue;
        }
        if (is_text(argument, "--")) {
            only_names = true;
            continue;
        }
        int64_t length = 0;
        while (argument[length] && argument[length] != '=')
            length++;
        const char *value = argument[length] ? argument + length + 1 : NULL;
        enum option option = HELP;
        while (option < UNKNOWN && !starts_as(argument, length, option_names[option]))
            option++;
        if (option == UNKNOWN || (option < TOP && value))
            return refuse(error, argument, length, "unknown option");
        if (option <= VERSION) {
            options->text = option == VERSION ? facts.version : facts.help;
            return true;
        }
        if (option == JSON) {
            options->json = true;
            continue;
        }
        if (!value && i + 1 == count)
            return refuse(error, argument, length, "a value must follow");
        const char *wrong = apply_value(options, option, value ? value : arguments[++i]);
        if (wrong)
            return refuse(error, argument, length, wrong);
        hop = hop || option == HOP;
        rate = rate || option == RATE || option == CHANNELS;
    }
    const char *wrong = contradiction(options, hop, rate);
    if (wrong)
        return refuse(error, NULL, 0, wrong);
    if (!hop)
        options->hop = options->window_seconds;
    return true;
}
