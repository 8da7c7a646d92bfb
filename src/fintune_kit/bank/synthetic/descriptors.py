"""How a bank writes a payment: templates of `descriptors.toml` filled with names, places and numbers of nobody.

    "SQ *{M} {mmdd} {city} {st}"   ->   SQ *BLUE BOTTLE 0423 OAKLAND CA

Names, streets and towns come from Faker, drawn once into a pool per region; a row picks from the pool, so that a
million rows cost seconds. The same seed gives the same text.
"""

import datetime
import random
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

from fintune_kit.bank.taxonomy import Merchant

_LOCALES = {"us": ("en_US",), "gb": ("en_GB",), "eu": ("de_DE", "fr_FR", "es_ES", "nl_NL", "it_IT"), "in": ("en_IN",)}
_POOL = 240  # names, streets and towns drawn from Faker a locale
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_FX = (("EUR", 1.08), ("GBP", 1.27), ("USD", 1.0), ("JPY", 0.0067), ("CHF", 1.13), ("THB", 0.028))

Template = tuple[tuple[str, str | None], ...]
"""Literal text and the field after it, in order."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What one region's lines are filled from."""

    names: tuple[tuple[str, str], ...]
    """First and last names."""
    places: tuple[tuple[str, str], ...]
    """Town and state (empty where banks write none)."""
    streets: tuple[str, ...]
    postcodes: tuple[str, ...]
    phones: tuple[str, ...]
    ibans: tuple[str, ...]


class Descriptors:
    """Writes the lines of one run; holds the templates, the pools and the random stream of the text."""

    def __init__(self, *, seed: int) -> None:
        raw = _templates()
        self._random = random.Random(seed)  # noqa: S311 (synthetic text, not a secret)
        self._forms: Mapping[str, list[Template]] = raw["merchant_forms"]
        self._templates: Mapping[str, Mapping[str, list[Template]]] = raw["regions"]
        self._words: Mapping[str, list[str]] = raw["words"]
        self._pools = {region: _draw_pool(region, places=raw["places"], seed=seed) for region in _LOCALES}
        self._fields = self._field_table()

    def contacts(self, region: str, count: int) -> list[tuple[str, str]]:
        """First and last names of people, for a person's regular transfers."""
        return self._random.choices(self._pools[region].names, k=count)

    def line(self, merchant: Merchant, **known: Any) -> str:
        """One description; see `parts` for the keywords."""
        return "".join([text for text, _ in self.parts(merchant, **known)])

    def parts(
        self, merchant: Merchant, *, kind: str, region: str, day: datetime.date, person: tuple[str, str], place: int
    ) -> list[tuple[str, str | None]]:
        """One description in pieces, each with the template field that it fills (None for literal text).

        Args:
            merchant: whose name the line carries.
            kind: a key of the region in descriptors.toml.
            region: `us`, `gb`, `eu`, `in`, or `foreign` for a payment abroad (written with the places of `eu`).
            day: the day that the line names, if it names one.
            person: first and last name of whoever a transfer names.
            place: any number; the same number gives the same town and street, as a merchant stays where it is.
        """
        forms = self._forms.get(merchant.name)
        use_form = forms is not None and kind in ("card", "online")
        template = self._random.choice(forms if use_form and forms else self._templates[region][kind])
        pool = self._pools["eu" if region == "foreign" else region]
        row = _Row(merchant.name, day, person, pool, place)
        pieces: list[tuple[str, str | None]] = []
        for literal, name in template:
            if literal:
                pieces.append((literal, None))
            if name is not None:
                pieces.append((self._fields[name](row), name))
        return pieces

    def _field_table(self) -> dict[str, Callable[["_Row"], str]]:
        draw, words = self._random, self._words
        table: dict[str, Callable[[_Row], str]] = {
            "M": lambda r: r.merchant,
            "Mt": lambda r: r.merchant.title().replace("'S", "'s"),
            "Mc": lambda r: "".join(c for c in r.merchant if c.isalnum()),
            "city": lambda r: r.pool.places[r.place % len(r.pool.places)][0],
            "st": lambda r: r.pool.places[r.place % len(r.pool.places)][1],
            "street": lambda r: r.pool.streets[r.place % len(r.pool.streets)].upper(),
            "zip": lambda r: r.pool.postcodes[r.place % len(r.pool.postcodes)],
            "name": lambda r: f"{r.person[0]} {r.person[1]}".upper(),
            "Name": lambda r: f"{r.person[0]} {r.person[1]}",
            "Last First": lambda r: f"{r.person[1]} {r.person[0]}".upper(),
            "mmdd": lambda r: f"{r.day.month:02d}{r.day.day:02d}",
            "mm/dd": lambda r: f"{r.day.month:02d}/{r.day.day:02d}",
            "ddmon": lambda r: f"{r.day.day:02d} {_MONTHS[r.day.month - 1]}",
            "dd.mm.": lambda r: f"{r.day.day:02d}.{r.day.month:02d}.",
            "ddmmyy": lambda r: f"{r.day.day:02d}{r.day.month:02d}{r.day.year % 100:02d}",
            "iso": lambda r: r.day.isoformat(),
            "time": lambda _: f"{draw.randrange(24):02d}:{draw.randrange(60):02d}",
            "iban": lambda r: draw.choice(r.pool.ibans),
            "phone": lambda r: draw.choice(r.pool.phones),
            "email": lambda r: f"{_slug(r.person)}@{draw.choice(('gmail.com', 'web.de', 'outlook.com'))}",
            "vpa": lambda r: (
                f"{_slug(r.person)}{draw.choice(('', '', str(draw.randrange(100))))}@{draw.choice(words['handles_in'])}"
            ),
            "bank": lambda _: draw.choice(words["banks_in"]),
            "ifsc": lambda _: f"{draw.choice(words['banks_in'])}0{draw.randrange(10**6):06d}",
            "bic": lambda _: draw.choice(words["bics"]),
            "card": lambda _: f"XXXX{draw.randrange(10**4):04d}",
            "creditor": lambda _: _creditor(draw.randrange(10**11)),
            "word": lambda _: draw.choice(words["purpose"]),
            "fx": lambda _: _foreign_amount(draw),
        }
        digits: Callable[[int], Callable[[_Row], str]] = lambda n: lambda _: f"{draw.randrange(10**n):0{n}d}"  # noqa: E731
        mixed: Callable[[int], Callable[[_Row], str]] = lambda n: lambda _: "".join(draw.choices(_ALPHABET, k=n))  # noqa: E731
        table |= {f"n{n}": digits(n) for n in range(1, 24)}
        return table | {f"x{n}": mixed(n) for n in range(4, 17)}


@dataclass(frozen=True, slots=True)
class _Row:
    merchant: str
    day: datetime.date
    person: tuple[str, str]
    pool: Pool
    place: int


@cache
def _templates() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("descriptors.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    return {
        "merchant_forms": {name: [_compile(t) for t in forms] for name, forms in raw["merchant_forms"].items()},
        "regions": {
            region: {kind: [_compile(t) for t in templates] for kind, templates in raw[region].items()}
            for region in (*_LOCALES, "foreign")
        },
        "words": raw["words"],
        "places": raw["places"],
    }


def _compile(template: str) -> Template:
    return tuple((literal, name) for literal, name, _, _ in Formatter().parse(template))


def _draw_pool(region: str, *, places: Mapping[str, list[str]], seed: int) -> Pool:
    from faker import Faker  # its providers are only needed where text is generated

    names, towns, streets, postcodes, phones, ibans = [], [], [], [], [], []
    for number, locale in enumerate(_LOCALES[region]):
        fake = Faker(locale)
        fake.seed_instance(seed * 31 + number)
        for _ in range(_POOL):
            names.append((fake.first_name(), fake.last_name()))
            streets.append(fake.street_address().replace("\n", " "))
            towns.append((fake.city().upper(), ""))
            postcodes.append(fake.postcode())
            phones.append(fake.phone_number())
            ibans.append(fake.iban())
    if region in places:
        towns = [
            (town[:-3], town[-2:]) if region == "us" else (town, "") for town in places[region]
        ]  # "OAKLAND CA" is town and state
    return Pool(
        names=tuple(names),
        places=tuple(towns),
        streets=tuple(streets),
        postcodes=tuple(postcodes),
        phones=tuple(phones),
        ibans=tuple(ibans),
    )


def _slug(person: tuple[str, str]) -> str:
    return ".".join("".join(c for c in part.lower() if c.isascii() and c.isalpha()) for part in person).strip(".")


def _creditor(number: int) -> str:
    from stdnum.eu import at_02

    bare = f"DE00ZZZ{number:011d}"
    return f"DE{at_02.calc_check_digits(bare)}{bare[4:]}"


def _foreign_amount(draw: random.Random) -> str:
    currency, rate = draw.choice(_FX)
    amount = draw.lognormvariate(3.4, 0.8) / rate
    return f"{amount:.2f} {currency} @ {rate * draw.uniform(0.97, 1.03):.4f}"
