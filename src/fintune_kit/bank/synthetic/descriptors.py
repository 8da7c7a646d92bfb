"""How a bank writes a payment: templates of `descriptors.toml` filled with names, places and numbers of nobody.

    "SQ *{M} {mmdd} {city} {st}"   ->   SQ *BLUE BOTTLE 0423 OAKLAND CA

A line fits its transaction. A till's prefix fits the trade, and a chain stands in a town of its own country. An amount
in the text is the transaction's; so is an amount abroad times its rate. Some lines hold the merchant alone.

Names, streets and towns come from Faker, drawn once into a pool per region. A transaction picks from the pool, so a
million cost seconds. The same seed gives the same text.
"""

import datetime
import random
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter
from typing import Any

from fintune_kit.bank.synthetic.habits import CURRENCIES
from fintune_kit.bank.taxonomy import REGIONS, Merchant

_LOCALES = {"us": ("en_US",), "gb": ("en_GB",), "eu": ("de_DE", "fr_FR", "es_ES", "nl_NL", "it_IT"), "in": ("en_IN",)}
_POOL = 240  # names, streets and towns drawn from Faker a locale
_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_IN_DOLLARS = {"EUR": 1.08, "GBP": 1.27, "USD": 1.0, "JPY": 0.0067, "CHF": 1.13, "THB": 0.028, "INR": 0.012}
_COUNTRIES = ("DE", "FR", "ES", "NL", "IT")  # of the locales of `eu`, in order
_LANGUAGE_OF = {"AT": "DE", "CH": "DE", "BE": "FR"}
_PLAIN_SHARE = 0.07  # of the lines of shops and contracts: the merchant and nothing else

Template = tuple[tuple[str, str | None], ...]
"""Literal text and the field after it, in order."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a merchant stands."""

    town: str
    state: str
    """Empty where banks write none."""
    area: str
    """State (us), country (eu) or town: what `homes` of descriptors.toml names."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The names, places and numbers of one region."""

    names: tuple[tuple[str, str], ...]
    """First and last names."""
    places: tuple[Place, ...]
    streets: tuple[str, ...]
    postcodes: tuple[str, ...]
    phones: tuple[str, ...]
    ibans: tuple[str, ...]


class Descriptors:
    """Writes the lines of one run; holds the pools and the random stream of the text."""

    def __init__(self, *, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 (synthetic text, not a secret)
        self._words: Mapping[str, list[str]] = _templates()["words"]
        self._pools = {region: _draw_pool(region, seed=seed) for region in _LOCALES}
        self._homes: dict[tuple[str, str], tuple[int, ...]] = {}
        self._fields = self._field_table()

    def contacts(self, region: str, count: int) -> list[tuple[str, str]]:
        """First and last names of people, for a person's regular transfers."""
        return self._random.choices(self._pools[region].names, k=count)

    def line(
        self,
        merchant: Merchant,
        *,
        kind: str,
        region: str,
        day: datetime.date,
        person: tuple[str, str],
        place: int,
        cents: int,
        currency: str,
    ) -> str:
        """One description.

        Args:
            merchant: whose name the line carries.
            kind: a key of the region in descriptors.toml, or `plain`.
            region: `us`, `gb`, `eu`, `in`, or `foreign` for a payment abroad.
            day: the day that the line names, if it names one.
            person: first and last name of whoever a transfer names.
            place: any number; the same number gives the same town and street, as a merchant stays where it is.
            cents: the amount, signed: a line that writes its amount writes this one.
            currency: of the amount.
        """
        pool = self._pools["eu" if region == "foreign" else region]
        index = self._index_of(merchant.name, region, place=place)
        where, abroad = pool.places[index], ""
        if region == "foreign":
            where, abroad = _place_abroad(merchant, home=currency, number=place)
        line = _Line(merchant.name, day, person, pool, index, where, abs(cents) / 100, currency, abroad)
        templates = self._templates_for(merchant, kind=kind, region=region, where=where, cents=cents)
        template = self._random.choice(templates)
        return "".join(f"{literal}{self._fields[name](line) if name else ''}" for literal, name in template)

    def _index_of(self, merchant: str, region: str, *, place: int) -> int:
        """Index of a merchant's place in the pool: a chain stays in its own country, states or towns."""
        places = self._pools["eu" if region == "foreign" else region].places
        if (region, merchant) not in self._homes:
            areas = _templates()["homes"].get(merchant, ())
            self._homes[region, merchant] = tuple(i for i, known in enumerate(places) if known.area in areas)
        at_home = self._homes[region, merchant]
        return at_home[place % len(at_home)] if at_home else place % len(places)

    def _templates_for(
        self, merchant: Merchant, *, kind: str, region: str, where: Place, cents: int
    ) -> Sequence[Template]:
        raw = _templates()
        trade = kind in ("card", "online")
        if kind == "plain" or ((trade or kind == "debit") and self._random.random() < _PLAIN_SHARE):
            return raw["plain"]
        if trade and merchant.name in raw["merchant_forms"]:
            return raw["merchant_forms"][merchant.name]
        kind = "transfer_in" if kind == "transfer" and cents > 0 else kind
        local = raw["languages"].get(_LANGUAGE_OF.get(where.area, where.area), {}) if region == "eu" else {}
        tills = raw["tills"].get((region, merchant.category), ()) if kind == "card" else ()
        return (*raw["regions"][region].get(kind, ()), *local.get(kind, ()), *tills)

    def _field_table(self) -> dict[str, Callable[["_Line"], str]]:
        draw, words = self._random, self._words
        table: dict[str, Callable[[_Line], str]] = {
            "M": lambda r: r.merchant,
            "Mt": lambda r: r.merchant.title().replace("'S", "'s"),
            "Mc": lambda r: "".join(c for c in r.merchant if c.isalnum()),
            "Ml": lambda r: r.merchant.lower(),
            "city": lambda r: r.where.town,
            "st": lambda r: r.where.state,
            "street": lambda r: r.pool.streets[r.place % len(r.pool.streets)].upper(),
            "zip": lambda r: r.pool.postcodes[r.place % len(r.pool.postcodes)],
            "dd-mon-yy": lambda r: f"{r.day.day:02d}-{_MONTHS[r.day.month - 1].title()}-{r.day.year % 100:02d}",
            "amt": lambda r: f"{r.amount:.0f}" if r.amount == int(r.amount) else f"{r.amount:.2f}",
            "mvpa": lambda r: f"{_slug((r.merchant, ''))[:14]}@{draw.choice(words['handles_in'])}",
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
            "fx": lambda r: _foreign_amount(r.amount, home=r.currency, abroad=r.abroad, draw=draw),
        }
        return table | self._code_fields()

    def _code_fields(self) -> dict[str, Callable[["_Line"], str]]:
        """`n4`: four digits; `x9`: nine letters and digits."""
        draw = self._random
        digits: Callable[[int], Callable[[_Line], str]] = lambda n: lambda _: f"{draw.randrange(10**n):0{n}d}"  # noqa: E731
        mixed: Callable[[int], Callable[[_Line], str]] = lambda n: lambda _: "".join(draw.choices(_ALPHABET, k=n))  # noqa: E731
        return {f"n{n}": digits(n) for n in range(1, 24)} | {f"x{n}": mixed(n) for n in range(4, 17)}


@dataclass(frozen=True, slots=True)
class _Line:
    merchant: str
    day: datetime.date
    person: tuple[str, str]
    pool: Pool
    place: int
    where: Place
    amount: float
    currency: str
    abroad: str
    """Currency of the place, where that is abroad."""


@cache
def _templates() -> dict[str, Any]:
    """descriptors.toml with its templates compiled; tills by (region, category), homes by merchant."""
    text = resources.files(__package__).joinpath("descriptors.toml").read_text(encoding="utf-8")
    raw = tomllib.loads(text)
    tills: dict[tuple[str, str], list[Template]] = {}
    for template, trades in raw["tills"].items():
        region, _, categories = trades.partition(": ")
        for category in categories.split("; "):
            tills.setdefault((region, category), []).append(_compile(template))
    return {
        "merchant_forms": _compiled(raw["merchant_forms"]),
        "regions": {region: _compiled(raw[region]) for region in (*_LOCALES, "foreign")},
        "languages": {country: _compiled(kinds) for country, kinds in raw["languages"].items()},
        "plain": _compiled(raw["plain"])["any"],
        "tills": tills,
        "words": raw["words"],
        "places": raw["places"],
        "towns": {country: towns.split("; ") for country, towns in raw["towns"].items()},
        "foreign_places": {currency: towns.split("; ") for currency, towns in raw["foreign_places"].items()},
        "homes": {name: areas.split() for areas, names in raw["homes"].items() for name in names.split("; ")},
    }


def _compiled(templates: Mapping[str, Sequence[str]]) -> dict[str, list[Template]]:
    return {kind: [_compile(template) for template in written] for kind, written in templates.items()}


def _compile(template: str) -> Template:
    return tuple((literal, name) for literal, name, _, _ in Formatter().parse(template))


def _draw_pool(region: str, *, seed: int) -> Pool:
    from faker import Faker  # its providers are only needed where text is generated

    names, places, streets, postcodes, phones, ibans = [], [], [], [], [], []
    for number, locale in enumerate(_LOCALES[region]):
        fake = Faker(locale)
        fake.seed_instance(seed * 31 + number)
        for _ in range(_POOL):
            names.append((fake.first_name(), fake.last_name()))
            streets.append(fake.street_address().replace("\n", " "))
            places.append(Place(town=fake.city().upper(), state="", area=_COUNTRIES[number]))
            postcodes.append(fake.postcode())
            phones.append(fake.phone_number())
            ibans.append(fake.iban())
    return Pool(
        names=tuple(names),
        places=_known_places(region) or (*places, *_further_towns()),
        streets=tuple(streets),
        postcodes=tuple(postcodes),
        phones=tuple(phones),
        ibans=tuple(ibans),
    )


def _known_places(region: str) -> tuple[Place, ...]:
    """The places of descriptors.toml; none for a region whose places come from Faker."""
    towns: list[str] = _templates()["places"].get(region, [])
    if region == "us":  # "OAKLAND CA" is town and state
        return tuple(Place(town=town[:-3], state=town[-2:], area=town[-2:]) for town in towns)
    return tuple(Place(town=town, state="", area=town) for town in towns)


def _further_towns() -> Iterator[Place]:
    for country, towns in _templates()["towns"].items():
        yield from (Place(town=town, state="", area=country) for town in towns)


def _place_abroad(merchant: Merchant, *, home: str, number: int) -> tuple[Place, str]:
    """A town abroad where the merchant may be, and its currency."""
    at_home = {CURRENCIES[region] for region in merchant.regions} - {home}
    everywhere = len(merchant.regions) == len(REGIONS)
    known = _templates()["foreign_places"]
    candidates = [
        (town, currency)
        for currency, towns in known.items()
        for town in towns
        if currency != home and (everywhere or not at_home or currency in at_home)
    ]
    town, currency = candidates[number % len(candidates)]
    return Place(town=town, state="", area=""), currency


def _slug(person: tuple[str, str]) -> str:
    return ".".join("".join(c for c in part.lower() if c.isascii() and c.isalpha()) for part in person).strip(".")


def _creditor(number: int) -> str:
    from stdnum.eu import at_02

    bare = f"DE00ZZZ{number:011d}"
    return f"DE{at_02.calc_check_digits(bare)}{bare[4:]}"


def _foreign_amount(amount: float, *, home: str, abroad: str, draw: random.Random) -> str:
    """The amount in the currency abroad and a rate of the day; their product is the amount."""
    rate = _IN_DOLLARS[abroad] / _IN_DOLLARS[home] * draw.uniform(0.97, 1.03)
    return f"{amount / rate:.2f} {abroad} @ {rate:.{4 if rate > 0.1 else 6}f}"
