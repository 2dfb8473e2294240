/* Raw numbers on standard input to raw numbers on standard output: one run of the model. */
#include "process.h"

int run(int count, char **arguments, char **environment) {
    int level = chosen_level(environment);
    if (level == UNSUPPORTED)
        fail("this processor lacks x86-64-v2\n");
    const struct level *model = &tinyonnx_levels[level];
    prefer_large_pages(&model->places[INPUTS + OUTPUTS]);
    prefer_large_pages(&model->places[INPUTS + OUTPUTS + 1]);
    for (int i = 0; i < INPUTS; i++) {
        const struct place *input = &model->places[i];
        for (int64_t have = 0; have < input->size;) {
            int64_t n = receive(0, input->at + have, input->size - have);
            if (n < 0)
                fail("standard input can't be read\n");
            if (n == 0)
                fail("standard input ends too early\n");
            have += n;
        }
    }
    char more;
    if (receive(0, &more, 1) != 0)
        fail("standard input goes on after the last number\n");
    call(&model->calls[0]);
    call(&model->calls[1]);
    for (int i = INPUTS; i < INPUTS + OUTPUTS; i++)
        if (send(1, model->places[i].at, model->places[i].size))
            fail("standard output can't be written\n");
    return 0;
}
