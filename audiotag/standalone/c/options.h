/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include "output.h"

struct options {
    /* of samples without a header; encoding 0: files have headers */
    int64_t raw_encoding, raw_channels, raw_rate;
    int64_t top;
    double threshold;
    bool json;
    /* 0: whole clips */
    double window_seconds, hop;
    /* to be printed instead of tagging, such as the help; or NULL */
    const char *text;
    char **names;
    int name_count;
};

/* Parse the arguments. False if they are wrong, which is reported to `error`. */
bool parse_options(int count, char **arguments, struct options *options, struct output *error);

/* A finite number, exactly as Python's float for up to 15 digits; -1 if the text is none. */
double real_number(const char *text);

#endif
