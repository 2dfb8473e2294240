/* Rows of text or JSON: the tags of a clip or a window, or why there are none. */
#include "rows.h"

static double seconds(int64_t samples) {
    return (double)samples / (double)facts.rate;
}

static void begin(struct output *out, int file) {
    flush(out);
    if (out->file == 2)
        out->error = 0; /* nobody can be told */
    out->file = file;
}

static void put_warnings(struct output *out, const struct sound *sound, const struct row *row) {
    double promised = (double)sound->wav.promised_frames / (double)sound->wav.rate;
    for (int left = sound->warnings; left; left &= left - 1) {
        switch ((enum warning)(left & -left)) {
        case LOUD:
            put_text(out, TOO_LOUD);
            break;
        case GOES_ON:
            put_format(out, HAS_MORE_SAMPLES, promised);
            break;
        case ENDS_EARLY:
            put_format(out, HAS_FEWER_SAMPLES, promised, (double)sound->decoded_frames / (double)sound->wav.rate);
            break;
        case CANCELLED:
            put_format(out, CHANNELS_CANCEL, sound->cancelled_at);
            break;
        case SHORT:
            put_format(out, TOO_SHORT, seconds(row->end - row->start));
        }
        put_text(out, left & (left - 1) ? "; " : "");
    }
}

static void put_json_row(struct output *out, const struct program *program, const struct sound *sound,
                         const struct row *row) {
    put_text(out, "{\"path\": \"");
    put_name(out, row->name, false, true);
    put_text(out, "\", \"start\": ");
    put_seconds(out, row->start, facts.rate);
    put_text(out, ", \"end\": ");
    put_seconds(out, row->end, facts.rate);
    put_text(out, ", \"duration\": ");
    put_duration(out, seconds(row->end) - seconds(row->start));
    put_text(out, ", \"tags\": [");
    for (int64_t i = 0; i < row->tags; i++) {
        int64_t tag = program->order[i];
        put_text(out, i ? ", " : "");
        put_text(out, facts.labels[tag].json);
        put_score(out, program->scores[tag]);
        put(out, '}');
    }
    put(out, ']');
    put_text(out, facts.json_end);
    if (sound->warnings) {
        put_text(out, ", \"warning\": \"");
        put_warnings(out, sound, row);
        put(out, '"');
    }
    put_text(out, "}\n");
}

/* The clip's name and its length, once. */
static void put_heading(struct output *out, const struct row *row, bool timeline) {
    if (out->has_heading)
        put(out, '\n');
    out->has_heading = true;
    put_name(out, row->name, true, false);
    if (!timeline)
        put_format(out, "  (%f s)", seconds(row->end));
    put_text(out, facts.heading_end);
}

static void put_tag(struct output *out, const struct program *program, int64_t place, const char *between) {
    int64_t tag = program->order[place];
    put_fixed(out, program->scores[tag], 4, 6);
    put_text(out, between);
    put_text(out, facts.labels[tag].name);
}

/* A line per tag. */
static void put_lines(struct output *out, const struct program *program, const struct row *row) {
    if (!row->tags)
        put_text(out, "  (no tag reaches the threshold)\n");
    for (int64_t i = 0; i < row->tags; i++) {
        put_text(out, "  ");
        put_tag(out, program, i, "  ");
        put(out, '\n');
    }
}

/* A line per window. */
static void put_line(struct output *out, const struct program *program, const struct row *row) {
    put_text(out, "  ");
    put_fixed(out, seconds(row->start), 2, 8);
    put(out, ' ');
    put_fixed(out, seconds(row->end), 2, 8);
    put_text(out, row->tags ? "  " : "  -");
    for (int64_t i = 0; i < row->tags; i++) {
        put_text(out, i ? ", " : "");
        put_tag(out, program, i, " ");
    }
    put(out, '\n');
}

void write_row(struct output *out, const struct program *program, const struct options *options, struct sound *sound,
               const struct row *row) {
    bool timeline = options->window_seconds > 0;
    if (sound->warnings) {
        begin(out, 2);
        put_text(out, PROGRAM);
        put_name(out, row->name, true, false);
        put_text(out, ": warning: ");
        put_warnings(out, sound, row);
        put(out, '\n');
    }
    begin(out, 1);
    if (options->json) {
        put_json_row(out, program, sound, row);
    } else {
        if (!row->window)
            put_heading(out, row, timeline);
        if (timeline)
            put_line(out, program, row);
        else
            put_lines(out, program, row);
    }
    flush(out);
    sound->warned |= sound->warnings;
    sound->warnings = 0;
}

static void put_problem(struct output *out, const struct sound *sound, const struct row *row, bool quoted) {
    const struct problem *problem = &sound->problem;
    put_name(out, row->name, true, quoted);
    put_text(out, ": ");
    if (problem->system_error)
        put_text(out, system_text(problem->system_error));
    else if (problem->text)
        put_format(out, problem->text, problem->first, problem->second);
    else
        put_warnings(out, sound, row);
}

void write_problem(struct output *out, const struct options *options, const struct sound *sound, const struct row *row) {
    begin(out, 2);
    put_text(out, PROGRAM);
    put_problem(out, sound, row, false);
    put(out, '\n');
    if (options->json) {
        begin(out, 1);
        put_text(out, "{\"path\": \"");
        put_name(out, row->name, false, true);
        put_text(out, "\", \"error\": {\"type\": \"AudioError\", \"message\": \"");
        put_problem(out, sound, row, true);
        put_text(out, "\"}}\n");
    }
    flush(out);
}
