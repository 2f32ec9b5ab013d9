/* The checks of grammar_fixture.h for JSON schemas. */
#ifndef QUIRE_TESTS_SCHEMA_FIXTURE_H
#define QUIRE_TESTS_SCHEMA_FIXTURE_H

#include "tests/model/grammar_fixture.h"

static inline void takes(const char *schema, const char *text)
{
    assert_takes(GRAMMAR_JSON_SCHEMA, schema, text);
}

static inline void takes_not(const char *schema, const char *text)
{
    assert_takes_not(GRAMMAR_JSON_SCHEMA, schema, text);
}

static inline void refuses(const char *schema, const char *words)
{
    assert_refuses(GRAMMAR_JSON_SCHEMA, schema, words);
}

#endif
