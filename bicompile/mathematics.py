"""Mathematical functions for objects that have no library: C, for what LLVM calls by these names.

They compute in float64 and round once, so they are within one unit in the last place of float32.
They are for what a model has of softmax, sigmoid and the like behind its layers: nothing here is
fast, and a model without them has none of it.
"""

import re
from collections.abc import Collection

_EXP = """
static double exp_of(double x) {
  if (x != x) return x;
  if (x > 200) x = 200;    /* either is 0 or infinite as a float */
  if (x < -200) x = -200;
  const double turns = x * 1.4426950408889634;
  const long long k = (long long)(turns < 0 ? turns - 0.5 : turns + 0.5);
  const double r = x - (double)k * 0.69314718055994531;
  double sum = 1;          /* r^n / n!, |r| <= ln 2 / 2 */
  for (int n = 13; n > 0; n--) sum = 1 + sum * r / n;
  union { long long bits; double value; } power = {(k + 1023) << 52};
  return sum * power.value;
}
"""

_LOG = """
static double log_of(double x) {
  if (x != x || x < 0) return __builtin_nan("");
  if (x == 0) return -__builtin_inf();
  if (x > 1e300) return x; /* infinite: a float is smaller */
  union { double value; long long bits; } of = {x};
  long long exponent = (of.bits >> 52) - 1023;
  of.bits = (of.bits & 0xFFFFFFFFFFFFFll) | (1023ll << 52);
  if (of.value > 1.4142135623730951) { of.value /= 2; exponent++; }
  const double s = (of.value - 1) / (of.value + 1), square = s * s;
  double sum = 0;          /* 2 atanh(s), |s| < 0.1716 */
  for (int n = 19; n > 0; n -= 2) sum = sum * square + 1.0 / n;
  return 2 * s * sum + (double)exponent * 0.69314718055994531;
}
"""

_FUNCTIONS = {
    "expf": ("float x", "return (float)exp_of(x);"),
    "logf": ("float x", "return (float)log_of(x);"),
    # exp(-x^2) x Σ (2 x^2)^n / (1·3·…·(2n + 1)), from 2 / √π: no term is negative.
    "erff": (
        "float x",
        """
  if (x > 4) return 1;
  if (x < -4) return -1;
  const double square = (double)x * x;
  double term = x, sum = x;
  for (int n = 1; n < 90; n++) sum += term *= 2 * square / (2 * n + 1);
  return (float)(1.1283791670955126 * exp_of(-square) * sum);
""",
    ),
    "powf": (
        "float base, float exponent",
        """
  const float size = base < 0 ? -base : base, many = exponent < 0 ? -exponent : exponent;
  if (exponent == 0 || base == 1) return 1;
  if (base != base || exponent != exponent) return base + exponent;
  if (size == 1 && many - many != 0) return 1;
  /* From 2^24 on every float is an even number. */
  const int is_whole = many >= 16777216 || (float)(int)many == many;
  const int is_odd = many < 16777216 && is_whole && (int)many % 2;
  if (base < 0 && size - size == 0 && !is_whole) return __builtin_nanf("");
  const float power = (float)exp_of(exponent * log_of(size));
  return __builtin_signbit(base) && is_odd ? -power : power;
""",
    ),
}

FUNCTIONS = tuple(_FUNCTIONS)
"""Those that there are, by their names in C."""


def called_by(assembly: str) -> list[str]:
    """Which of the functions a text in assembly calls."""
    return [name for name in FUNCTIONS if re.search(rf"\b{name}\b", assembly)]


def source(names: Collection[str]) -> str:
    """C that defines these functions as local symbols, and what they need."""
    text = "".join(
        f'static float our_{name}({parameters}) __asm__("{name}");\n'
        f"__attribute__((used, no_builtin)) static float our_{name}({parameters}) {{{body}}}\n"
        for name, (parameters, body) in _FUNCTIONS.items()
        if name in names
    )
    helpers = {"exp_of": _EXP, "log_of": _LOG}
    return "".join(code for name, code in helpers.items() if f"{name}(" in text) + text
