"""The problem templates: one function each, with one to four steps of arithmetic.

A template takes a draft, draws its numbers, writes the sentences of the solution and returns the question, with the
draft's slots in place of the numbers. Texts are short because every token costs time in training the bridge.
"""

from __future__ import annotations

from collections.abc import Callable

from ray_bridge.tasks.synthetic.drafting import Draft, RejectedError

Template = Callable[[Draft], str]
TEMPLATES: dict[str, Template] = {}


def template(make: Template) -> Template:
    """Register a template under its function's name."""
    TEMPLATES[make.__name__] = make
    return make


# One step


@template
def gain(d: Draft) -> str:
    a, b = d.count(3, 90), d.count(2, 90)
    d.step(f"{d.A} has", a, "+", b, d.x)
    return f"{d.A} has {a} {d.x} and buys {b} more. How many {d.x} does {d.A} have now?"


@template
def lose(d: Draft) -> str:
    a = d.count(8, 99)
    b = d.count(2, a.value - 1)
    d.step("There are", a, "-", b, "left")
    return f"{d.A} has {a} {d.x} and sells {b} of them. How many are left?"


@template
def groups(d: Draft) -> str:
    a, b = d.count(2, 12), d.count(2, 24)
    d.step("There are", a, "*", b, d.x)
    return f"There are {a} {d.box} with {b} {d.x} in each. How many {d.x} are there?"


@template
def shared(d: Draft) -> str:
    n = d.rng.randint(2, 12)
    a, b = d.multiple(n, 6, 99), d.given(n)
    d.step("Each gets", a, "/", b, d.x)
    return f"{d.A} shares {a} {d.x} among {b} {d.people}. How many does each get?"


@template
def times(d: Draft) -> str:
    a, m = d.count(2, 40), d.times()
    d.step(f"{d.B} has", a, "*", m, d.x)
    return f"{d.A} has {a} {d.x}. {d.B} has {m} as many. How many does {d.B} have?"


@template
def fraction(d: Draft) -> str:
    n = d.rng.randint(2, 10)
    a, f = d.multiple(n, 6, 99), d.share(n)
    d.step(f"{d.B} gets", a, "/", f, d.x)
    return f"{d.A} has {a} {d.x} and gives {f} of them to {d.B}. How many does {d.B} get?"


@template
def habit(d: Draft) -> str:
    a, t = d.count(2, 15), d.days()
    d.step(f"{d.A} makes", a, "*", t, d.x)
    return f"{d.A} makes {a} {d.x} a day for {t}. How many {d.x} are made?"


# Two steps


@template
def gain_lose(d: Draft) -> str:
    a, b = d.count(5, 80), d.count(2, 60)
    c = d.count(2, min(90, a.value + b.value - 1))
    s = d.step(f"{d.A} has", a, "+", b, d.x)
    d.step("There are", s, "-", c, "left")
    return f"{d.A} has {a} {d.x}, finds {b} more and gives {c} to {d.B}. How many are left?"


@template
def times_total(d: Draft) -> str:
    a, m = d.count(2, 30), d.times()
    s = d.step(f"{d.B} has", a, "*", m, d.x)
    d.step("Together they have", a, "+", s, d.x)
    return f"{d.A} has {a} {d.x}. {d.B} has {m} as many. How many do they have together?"


@template
def more_total(d: Draft) -> str:
    a, b = d.count(3, 60), d.count(2, 60)
    s = d.step(f"{d.B} has", a, "+", b, d.x)
    d.step("Together they have", a, "+", s, d.x)
    return f"{d.A} has {a} {d.x}. {d.B} has {b} more than {d.A}. How many do they have together?"


@template
def fewer_total(d: Draft) -> str:
    a = d.count(8, 99)
    b = d.count(2, a.value - 2)
    s = d.step(f"{d.B} has", a, "-", b, d.x)
    d.step("Together they have", a, "+", s, d.x)
    return f"{d.A} has {a} {d.x}. {d.B} has {b} fewer than {d.A}. How many do they have together?"


@template
def loose(d: Draft) -> str:
    a, b, c = d.count(2, 10), d.count(2, 24), d.count(2, 60)
    s = d.step(f"The {d.box} hold", a, "*", b, d.x)
    d.step("There are", s, "+", c, d.x)
    return f"{d.A} has {a} {d.box} of {b} {d.x} and {c} loose ones. How many {d.x} are there?"


@template
def groups_used(d: Draft) -> str:
    a, b = d.count(2, 10), d.count(3, 24)
    c = d.count(2, min(99, a.value * b.value - 1))
    s = d.step("There were", a, "*", b, d.x)
    d.step("There are", s, "-", c, "left")
    return f"A shop gets {a} {d.box} of {b} {d.x} and sells {c} of them. How many are left?"


@template
def cost(d: Draft) -> str:
    a, p, q = d.count(2, 12), d.count(2, 20), d.count(2, 60)
    s = d.step(f"The {d.x} cost", a, "*", p, "dollars")
    d.step(f"{d.A} pays", s, "+", q, "dollars")
    return f"{d.A} buys {a} {d.x} for {p} dollars each and a bag for {q}. How many dollars does {d.A} pay?"


@template
def change(d: Draft) -> str:
    a, p = d.count(2, 9), d.count(2, 12)
    m = d.count(a.value * p.value + 1, 99)
    s = d.step(f"The {d.x} cost", a, "*", p, "dollars")
    d.step(f"{d.A} gets", m, "-", s, "dollars back")
    return f"{d.A} buys {a} {d.x} for {p} dollars each and pays with {m}. How much change does {d.A} get?"


@template
def daily(d: Draft) -> str:
    a, t, c = d.count(2, 12), d.days(), d.count(2, 80)
    s = d.step(f"{d.A} makes", a, "*", t, d.x)
    d.step(f"{d.A} has", s, "+", c, d.x)
    return f"{d.A} had {c} {d.x} and makes {a} a day for {t}. How many {d.x} does {d.A} have now?"


@template
def fraction_left(d: Draft) -> str:
    n = d.rng.randint(2, 10)
    a, f = d.multiple(n, 8, 99), d.share(n)
    s = d.step(f"{d.A} sells", a, "/", f, d.x)
    d.step("There are", a, "-", s, "left")
    return f"{d.A} has {a} {d.x} and sells {f} of them. How many are left?"


@template
def pool_share(d: Draft) -> str:
    n = d.rng.randint(2, 12)
    total = n * d.rng.randint(-(-8 // n), 120 // n)
    a = d.count(2, min(90, total - 2))
    b, c = d.given(total - a.value), d.given(n)
    s = d.step("Together they have", a, "+", b, d.x)
    d.step("Each gets", s, "/", c, d.x)
    return f"{d.A} has {a} {d.x} and {d.B} has {b}. They share all among {c} {d.people}. How many does each get?"


@template
def keep_share(d: Draft) -> str:
    n, each, k = d.rng.randint(2, 12), d.rng.randint(2, 12), d.rng.randint(2, 30)
    if n * each + k > 99:
        raise RejectedError
    a, b, c = d.given(n * each + k), d.given(k), d.given(n)
    s = d.step("There are", a, "-", b, "to share")
    d.step("Each gets", s, "/", c, d.x)
    return f"{d.A} has {a} {d.x}, keeps {b} and shares the rest among {c} {d.people}. How many does each get?"


@template
def seats(d: Draft) -> str:
    a, b = d.count(2, 12), d.count(3, 15)
    c = d.count(2, min(99, a.value * b.value - 1))
    s = d.step("There are", a, "*", b, "seats")
    d.step("There are", s, "-", c, "free seats")
    return f"A hall has {a} rows of {b} seats. {c} seats are taken. How many seats are free?"


@template
def age(d: Draft) -> str:
    a, k, y = d.count(4, 60), d.count(2, 30), d.count(2, 40)
    s = d.step(f"{d.B} is", a, "+", k, "years old")
    d.step(f"{d.B} will be", s, "+", y, "years old")
    return f"{d.A} is {a}. {d.B} is {k} years older. How old will {d.B} be in {y} years?"


# Three steps


@template
def two_buys(d: Draft) -> str:
    a, p, b, q = d.count(2, 9), d.count(2, 14), d.count(2, 9), d.count(2, 14)
    s = d.step(f"The {d.x} cost", a, "*", p, "dollars")
    t = d.step(f"The {d.y} cost", b, "*", q, "dollars")
    d.step(f"{d.A} pays", s, "+", t, "dollars")
    return f"{d.A} buys {a} {d.x} for {p} dollars each and {b} {d.y} for {q} each. How many dollars does {d.A} pay?"


@template
def times_give(d: Draft) -> str:
    a, m = d.count(2, 25), d.times()
    c = d.count(2, min(90, a.value * (m.value + 1) - 1))
    s = d.step(f"{d.B} has", a, "*", m, d.x)
    t = d.step("Together they have", a, "+", s, d.x)
    d.step("There are", t, "-", c, "left")
    return f"{d.A} has {a} {d.x}. {d.B} has {m} as many. They give away {c}. How many are left?"


@template
def pack_left(d: Draft) -> str:
    a, b, c, e = d.count(2, 9), d.count(5, 24), d.count(2, 8), d.count(2, 12)
    s = d.step("There are", a, "*", b, d.x)
    t = d.step(f"{d.A} gives", c, "*", e, d.x)
    d.step("There are", s, "-", t, "left")
    return f"{d.A} has {a} {d.box} of {b} {d.x} and gives {c} {d.people} {e} each. How many {d.x} are left?"


@template
def daily_sell(d: Draft) -> str:
    a, t, k, p = d.count(2, 8), d.days(14), d.count(2, 30), d.count(2, 5)
    s = d.step(f"{d.A} makes", a, "*", t, d.x)
    u = d.step("There are", s, "-", k, "to sell")
    d.step(f"{d.A} earns", u, "*", p, "dollars")
    return (
        f"{d.A} makes {a} {d.x} a day for {t}, keeps {k} and sells the rest for {p} dollars each. "
        f"How many dollars does {d.A} earn?"
    )


@template
def fraction_gain(d: Draft) -> str:
    n = d.rng.randint(2, 10)
    a, f, c = d.multiple(n, 8, 99), d.share(n), d.count(2, 60)
    s = d.step(f"{d.A} gives", a, "/", f, d.x)
    t = d.step(f"{d.A} has", a, "-", s, "left")
    d.step(f"{d.A} has", t, "+", c, d.x)
    return f"{d.A} has {a} {d.x}, gives {f} of them to {d.B} and finds {c}. How many does {d.A} have now?"


@template
def wage(d: Draft) -> str:
    h, p, b, c = d.count(2, 9), d.count(3, 20), d.count(2, 40), d.count(2, 60)
    s = d.step(f"{d.A} earns", h, "*", p, "dollars")
    t = d.step(f"{d.A} has", s, "+", b, "dollars")
    d.step("There are", t, "-", c, "dollars left")
    return (
        f"{d.A} works {h} hours for {p} dollars an hour, gets a bonus of {b} and spends {c}. How many dollars are left?"
    )


@template
def boxes_share(d: Draft) -> str:
    a, b = d.count(2, 9), d.count(2, 24)
    n, c = d.count(2, 9), d.count(2, 40)
    s = d.step("There are", a, "*", b, d.x)
    t = d.step("Each gets", s, "/", n, d.x)
    d.step(f"{d.A} has", t, "+", c, d.x)
    return (
        f"{a} {d.box} of {b} {d.x} are shared by {n} {d.people}. {d.A} is one of them and had {c}. "
        f"How many does {d.A} have now?"
    )


# Four steps


@template
def big_shop(d: Draft) -> str:
    a, p, b, q = d.count(2, 8), d.count(2, 8), d.count(2, 8), d.count(2, 8)
    m = d.count(a.value * p.value + b.value * q.value + 1, 99)
    s = d.step(f"The {d.x} cost", a, "*", p, "dollars")
    t = d.step(f"The {d.y} cost", b, "*", q, "dollars")
    u = d.step(f"{d.A} pays", s, "+", t, "dollars")
    d.step("There are", m, "-", u, "left")
    return (
        f"{d.A} has {m} dollars and buys {a} {d.x} for {p} each and {b} {d.y} for {q} each. How many dollars are left?"
    )


@template
def farm(d: Draft) -> str:
    a, m, k, p = d.count(2, 12), d.times(5), d.count(2, 20), d.count(2, 5)
    s = d.step(f"{d.B} has", a, "*", m, d.x)
    t = d.step("Together they have", a, "+", s, d.x)
    u = d.step("There are", t, "-", k, "to sell")
    d.step("They earn", u, "*", p, "dollars")
    return (
        f"{d.A} has {a} {d.x}. {d.B} has {m} as many. They keep {k} and sell the rest for {p} dollars each. "
        f"How many dollars do they earn?"
    )


@template
def trip(d: Draft) -> str:
    a, t, b, u, k = d.count(2, 9), d.days(14), d.count(2, 9), d.days(14), d.count(2, 60)
    s = d.step(f"{d.A} walks", a, "*", t, "miles")
    v = d.step("Then it is", b, "*", u, "miles")
    w = d.step("The way is", s, "+", v, "miles")
    d.step("In all it is", w, "+", k, "miles")
    return (
        f"{d.A} walks {a} miles a day for {t}, then {b} miles a day for {u}. The way home is {k} miles. "
        f"How many miles is it in all?"
    )


@template
def collect(d: Draft) -> str:
    a, b, m = d.count(3, 30), d.count(2, 30), d.times(5)
    c = d.count(2, 90)
    s = d.step(f"{d.A} has", a, "+", b, d.x)
    t = d.step(f"{d.B} has", s, "*", m, d.x)
    u = d.step("Together they have", s, "+", t, d.x)
    d.step("There are", u, "-", c, "left")
    return f"{d.A} has {a} {d.x} and finds {b}. {d.B} then has {m} as many. They sell {c}. How many are left?"
