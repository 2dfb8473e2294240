/* Raw numbers on standard input to raw numbers on standard output: one run of the model. */
#include "process.h"

int run(int count, char **arguments, char **environment) {
    const struct level *model = chosen_level(environment);
    const struct place *places = model->places, *arena = &places[INPUTS + OUTPUTS], *unpacked = arena + 1;
    (void)count, (void)arguments;
    prefer_large_pages(arena->at, arena->size);
    prefer_large_pages(unpacked->at, unpacked->size);
    for (const struct place *input = places; input < places + INPUTS; input++)
        for (int64_t have = 0; have < input->size;) {
            int64_t n = read_file(0, input->at + have, input->size - have);
            if (n < 0)
                fail("standard input can't be read\n");
            if (n == 0)
                fail("standard input ends too early\n");
            have += n;
        }
    char more;
    if (read_file(0, &more, 1) != 0)
        fail("standard input goes on after the last number\n");
    call(&model->calls[0]);
    call(&model->calls[1]);
    if (CHECKED && *(int64_t *)arena->at)
        fail("the data are invalid, such as an index out of range\n");
    for (const struct place *output = places + INPUTS; output < arena; output++)
        if (write_file(1, output->at, output->size))
            fail("standard output can't be written\n");
    return 0;
}
