#include "model/pretokenizer_family.h"

/* What stands between [ and ] begins with CLASS_; a general category that is left out of a negated
 * class meets the other sets there: [^\P{L}X] are the letters that are not in X. */
#define CLASS_BLANK "\\t-\\r\\x{85}\\p{Z}"
#define BLANK "[" CLASS_BLANK "]"
#define NO_BLANK "[^" CLASS_BLANK "]"
#define CLASS_OTHER CLASS_BLANK "\\p{L}\\p{N}" /* negated: marks, punctuation, symbols, controls */

/* English endings in both cases; PCRE2's (?i) would also take U+017F for s. */
#define ENDINGS "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define LOW_ENDINGS "'s|'t|'re|'ve|'m|'ll|'d"

/* --- one stage --- */

#define PATTERN_GPT_2                                                                              \
    LOW_ENDINGS "| ?\\p{L}+| ?\\p{N}+| ?[^" CLASS_OTHER "]+|" BLANK "+(?!" NO_BLANK ")|" BLANK "+"

#define LINES_AND_BLANKS BLANK "*[\\r\\n]+|" BLANK "+(?!" NO_BLANK ")|" BLANK "+"

#define PATTERN_LLAMA_BPE                                                                          \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" CLASS_OTHER                          \
            "]+[\\r\\n]*|" LINES_AND_BLANKS

#define PATTERN_QWEN2                                                                              \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" CLASS_OTHER "]+[\\r\\n]*"                 \
                                                                     "|" LINES_AND_BLANKS

#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED_WORD(ending)                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" ending

#define PATTERN_TEKKEN CASED_WORD("") "|\\p{N}| ?[^" CLASS_OTHER "]+[\\r\\n/]*|" LINES_AND_BLANKS

#define PATTERN_LLAMA_4                                                                            \
    CASED_WORD(ENDINGS "?") "|\\p{N}{1,3}| ?[^" CLASS_OTHER "]+[\\r\\n/]*|" LINES_AND_BLANKS

/* --- several stages --- */

/* 1 single digits; 2 gpt-2. A digit ends a piece as the end of text does, so blanks before one stay
 * together. */
#define PATTERN_SMOLLM                                                                             \
    LOW_ENDINGS "| ?\\p{L}+|\\p{N}| ?[^" CLASS_OTHER "]+|" BLANK "+(?![^" CLASS_BLANK              \
                "\\p{N}])|" BLANK "+"

/* 1 runs of symbols; 2 gpt-2, whose endings then have no apostrophe; 3 runs of digits, without the
 * blank that gpt-2 gave them; 4 three ASCII digits, wherever they stand together in such a run. */
#define CLASS_MARKS "\\p{P}$+<=>^~|"
#define PATTERN_DEFAULT                                                                            \
    "[" CLASS_MARKS "]+| ?\\p{L}+| (?=\\p{N})|[0-9]{3}|(?:(?![0-9]{3})\\p{N})++"                   \
    "| ?[^" CLASS_OTHER CLASS_MARKS "]+"                                                           \
    "|" BLANK "+(?![^" CLASS_BLANK CLASS_MARKS "])|" BLANK "+"

/* 1 up to three digits; 2 runs of ideographs and kana; 3 words, symbols, blanks of what is left.
 * Inside a run of kana stage 3 finds letters with marks, symbols, and code points of nothing. */
#define CLASS_KANA "\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}"
#define KANA_LETTER                                                                                \
    "[\\x{4E00}-\\x{9FA5}\\x{3041}-\\x{3096}\\x{3099}\\x{309A}\\x{309D}-\\x{309F}"                 \
    "\\x{30A1}-\\x{30FA}\\x{30FC}-\\x{30FF}]"
#define KANA_SYMBOL "[\\x{309B}\\x{309C}\\x{30A0}\\x{30FB}]"
#define KANA_NOTHING "[\\x{3040}\\x{3097}\\x{3098}]"
#define WORD_CHAR "[^\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" CLASS_KANA "]" /* letters and marks */
#define PATTERN_DEEPSEEK_V3                                                                        \
    "\\p{N}{1,3}"                                                                                  \
    "|" KANA_NOTHING "?" KANA_LETTER "+|" KANA_SYMBOL "+|" KANA_NOTHING "+(?!" KANA_LETTER ")"     \
    "|[!-/:-@\\[-`{-~][A-Za-z]+"                                                                   \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}\\p{N}" CLASS_KANA "]?" WORD_CHAR "+"                              \
    "| ?[^\\p{L}\\p{M}\\p{N}\\p{Z}\\p{C}" CLASS_KANA "]+[\\r\\n]*"                                 \
    "|" BLANK "*[\\r\\n]+"                                                                         \
    "|" BLANK "+(?![^" CLASS_BLANK "\\p{N}" CLASS_KANA "])|" BLANK "+"                             \
    "|[^\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}" CLASS_BLANK CLASS_KANA "]+(?!" WORD_CHAR ")"

/* The last two split what their first stages give into runs inside and outside of these ranges. */
#define CLASS_CJK "\\x{800}-\\x{9FA5}\\x{AC00}-\\x{D7FF}"
#define CLASS_NO_CJK "\\x{0}-\\x{7FF}\\x{9FA6}-\\x{ABFF}\\x{E000}-\\x{10FFFF}"
/* Blanks of a line outside and inside of them; U+3000 is inside too. */
#define CLASS_BLANK_LOW "\\t\\x{B}\\x{C} \\x{85}\\x{A0}"
#define CLASS_BLANK_CJK "\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}"
#define CLASS_BLANK_LINE CLASS_BLANK_LOW CLASS_BLANK_CJK "\\x{3000}"

/* 1 ends of lines, each; 2 \s?\p{L}+; 3 \s?\p{P}+; 4 runs of CJK; 5 single digits. So a blank goes
 * with the letter or mark behind it if both are inside of CJK or both outside, else it stands
 * alone; the rest are runs that end before such a blank. */
#define WITH_BLANK(category)                                                                       \
    "[" CLASS_BLANK_LOW "]?[^\\P{" category "}" CLASS_CJK "]+"                                     \
    "|[" CLASS_BLANK_CJK "\\x{3000}]?[^\\P{" category "}" CLASS_NO_CJK "]+"
#define CODER_RUN(outside)                                                                         \
    "[^\\r\\n\\p{L}\\p{P}\\p{N}" outside "]*[^\\p{L}\\p{P}\\p{N}" CLASS_BLANK outside "]"          \
    "(?=[\\p{L}\\p{P}])|[^\\r\\n\\p{L}\\p{P}\\p{N}" outside "]+(?![\\p{L}\\p{P}])"
#define PATTERN_DEEPSEEK_CODER                                                                     \
    "[\\r\\n]|" WITH_BLANK("L") "|" WITH_BLANK(                                                    \
        "P") "|[" CLASS_BLANK_LINE "](?=[\\p{L}\\p{P}])|\\p{N}"                                    \
             "|" CODER_RUN(CLASS_CJK) "|" CODER_RUN(CLASS_NO_CJK)

/* 1 ends of lines, each; 2 \s? and cased letters; 3 \s? and marks, which are letters of ASCII and
 * their full-width forms (so stage 3 also splits the words of stage 2), punctuation and U+3000;
 * 4 \s+$, which takes the blanks that end a piece; 5 runs of CJK; 6 runs of digits. */
#define CLASS_CASED_OTHER                                                                          \
    "\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"      \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}"          \
    "\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}"                 \
    "\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"                     \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"                 \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"             \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"         \
    "\\x{1E900}-\\x{1E943}"

#define CLASS_CASED_CJK                                                                            \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}"                 \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}"                 \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"                 \
    "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}"         \
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"        \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}"        \
    "\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"          \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"        \
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"         \
    "\\x{2CF2}\\x{2CF3}"

#define CLASS_CASED_PLAIN "A-Za-z\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}" /* of stage 3 too */
#define CLASS_CASED CLASS_CASED_PLAIN CLASS_CASED_OTHER CLASS_CASED_CJK
#define CLASS_PUNCT_LOW                                                                            \
    "!-/:-@\\[-`{-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF20}\\x{FF3B}-\\x{FF40}\\x{FF5B}-\\x{FF5E}"
#define CLASS_PUNCT_CJK "\\x{2018}-\\x{201F}\\x{3001}\\x{3002}"
#define CLASS_PUNCT CLASS_PUNCT_LOW CLASS_PUNCT_CJK
/* What takes the blank before it: U+3000 is a mark, unless a word takes that. */
#define TAKES_BLANK "[" CLASS_CASED CLASS_PUNCT "]|\\x{3000}(?![" CLASS_CASED "])"
/* Negated: what no stage names, with the blanks of a line and without. */
#define CLASS_NAMED CLASS_CASED CLASS_PUNCT "\\p{N}\\r\\n\\x{3000}"
#define CLASS_NAMED_BLANK CLASS_CASED CLASS_PUNCT "\\p{N}" CLASS_BLANK
/* A run of that, with the blanks that stand in it; those that end it are a piece. */
#define LLM_RUN(blank, outside)                                                                    \
    "[^" CLASS_NAMED outside "]*[^" CLASS_NAMED_BLANK outside "](?:[" blank "]++"                  \
    "(?=[" CLASS_BLANK_LOW CLASS_BLANK_CJK "]*+[^" CLASS_CASED CLASS_PUNCT CLASS_BLANK "]))?"      \
    "|[" blank "]+(?!" TAKES_BLANK ")"
#define PATTERN_DEEPSEEK_LLM                                                                       \
    "[\\r\\n]"                                                                                     \
    "|[" CLASS_BLANK_LOW "]?[" CLASS_CASED_PLAIN "]+|[" CLASS_BLANK_LOW "]?[" CLASS_CASED_OTHER    \
    "]+|[" CLASS_BLANK_CJK "]?[" CLASS_CASED_CJK "]+"                                              \
    "|[" CLASS_BLANK_LINE "](?=[" CLASS_CASED "])"                                                 \
    "|[" CLASS_BLANK_LOW "]?[" CLASS_PUNCT_LOW "]+"                                                \
    "|[" CLASS_BLANK_CJK "]?[\\x{3000}" CLASS_PUNCT_CJK "]*[" CLASS_PUNCT_CJK "]"                  \
    "(?:\\x{3000}+(?=[" CLASS_PUNCT_LOW "]))?"                                                     \
    "|[" CLASS_BLANK_CJK "]?\\x{3000}+(?![" CLASS_CASED "])"                                       \
    "|[" CLASS_BLANK_LINE "](?=" TAKES_BLANK ")"                                                   \
    "|[^\\P{N}" CLASS_CJK "]+|[^\\P{N}" CLASS_NO_CJK "]+"                                          \
    "|" LLM_RUN(CLASS_BLANK_LOW, CLASS_CJK) "|" LLM_RUN(CLASS_BLANK_CJK, CLASS_NO_CJK)

static const struct pretokenizer_family families[] = {
    {PATTERN_GPT_2, {"gpt-2", "olmo", "mpt", "exaone4"}, false, false},
    {PATTERN_SMOLLM, {"smollm", "starcoder", "refact", "command-r", "codeshell"}, false, false},
    {PATTERN_LLAMA_BPE, {"llama-bpe", "llama3", "llama-v3", "pixtral"}, true, true},
    {PATTERN_QWEN2, {"qwen2", "deepseek-r1-qwen", "megrez"}, false, false},
    {PATTERN_TEKKEN, {"tekken"}, true, true},
    {PATTERN_LLAMA_4, {"llama4", "gpt-4o", "kanana2"}, false, false},
    {PATTERN_DEEPSEEK_V3, {"deepseek-v3"}, false, false},
    {PATTERN_DEEPSEEK_CODER, {"deepseek-coder"}, false, false},
    {PATTERN_DEEPSEEK_LLM, {"deepseek-llm"}, false, false},
    {PATTERN_DEFAULT, {"default"}, false, false},
};

const struct pretokenizer_family *pretokenizer_family_at(size_t idx)
{
    return idx < sizeof families / sizeof *families ? &families[idx] : NULL;
}

const struct pretokenizer_family *pretokenizer_family_find(struct slice name)
{
    struct slice wanted = name.len > 0 ? name : slice_from("default");
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        for (const char *const *known = families[i].names; *known != NULL; known++)
            if (slice_equal(wanted, slice_from(*known)))
                return &families[i];
    return NULL;
}
