/* Threads that walk through the same functions together, each with its share of the work. */

#pragma once
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "vectors.h"

typedef struct {
    int64_t index, count;
} Team;

/* Let so many threads do the work, in which `me()` tells each who it is; without OpenMP there is one. */
#ifdef _OPENMP
#define DO(words) _Pragma(#words)
#define TOGETHER(threads, work) DO(omp parallel num_threads((int)(threads))) work
#else
#define TOGETHER(threads, work) (void)(threads), work
#endif

ALWAYS Team me(void) {
#ifdef _OPENMP
    return (Team){omp_get_thread_num(), omp_get_num_threads()};
#else
    return (Team){0, 1};
#endif
}

/* Wait until all are here. */
ALWAYS void meet(Team team) {
    (void)team;
#ifdef _OPENMP
#pragma omp barrier
#endif
}

typedef struct {
    int64_t from, to;
} Span;

/* The share of a thread in `count` things that are handed out `grain` at a time. */
ALWAYS Span share(Team team, int64_t count, int64_t grain) {
    int64_t grains = (count + grain - 1) / grain;
    int64_t from = team.index * grains / team.count * grain, to = (team.index + 1) * grains / team.count * grain;
    return (Span){from < count ? from : count, to < count ? to : count};
}
