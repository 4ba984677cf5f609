"""Text with personal data and secrets in known places: values by faker and by vendors' documents, in code and chat.

Nothing here knows how the scanner matches: values are drawn in the formats of faker's locales and of the vendors'
documents, and the carriers are what people write around such values in code, configuration, logs and chat.
"""

# ruff: noqa: RUF001 (letters and digits of other scripts are what this is about)
from __future__ import annotations

import base64
import ipaddress
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faker import Faker

ALNUM = string.ascii_letters + string.digits
URL64 = ALNUM + "-_"
BASE32 = string.ascii_uppercase + "234567"
HEX = "0123456789abcdef"

PHONE_LOCALES = ("en_US", "en_GB", "de_DE", "fr_FR", "en_IN", "hi_IN")
LOCALES = (
    "en_US",
    "en_GB",
    "de_DE",
    "fr_FR",
    "en_IN",
    "es_ES",
    "it_IT",
    "pt_BR",
    "nl_NL",
    "pl_PL",
    "sv_SE",
    "ru_RU",
    "ja_JP",
)
IBAN_LOCALES = (
    "de_DE",
    "en_GB",
    "fr_FR",
    "it_IT",
    "es_ES",
    "nl_NL",
    "pl_PL",
    "fi_FI",
    "no_NO",
    "pt_PT",
    "tr_TR",
    "de_CH",
)


@dataclass(frozen=True)
class Plant:
    """A value, its kind (one of the scanner's, or `named`: a secret that its form does not tell), its source."""

    kind: str
    value: str
    source: str


class Values:
    """Draws values; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fakers = {name: Faker(name) for name in {*LOCALES, *PHONE_LOCALES, *IBAN_LOCALES}}
        for number, name in enumerate(sorted(self.fakers)):
            self.fakers[name].seed_instance(seed + number)

    def of(self, alphabet: str, size: int) -> str:
        return "".join(self.random.choices(alphabet, k=size))

    def faker(self, locales: tuple[str, ...]) -> tuple[str, Faker]:
        name = self.random.choice(locales)
        return name, self.fakers[name]

    # --- people's -------------------------------------------------------------------------------------------
    def email(self) -> Plant:
        """faker's mail addresses with domains of companies and of free providers (its `safe` ones are example.com)."""
        name, fake = self.faker(LOCALES)
        draw: Callable[[], str] = self.random.choice((fake.company_email, fake.free_email, fake.ascii_company_email))
        return Plant("email", draw(), name)

    def phone(self) -> Plant:
        """faker's formats of the five countries, its E.164 of any."""
        name, fake = self.faker(PHONE_LOCALES)
        if self.random.random() < 0.15:
            name, fake = self.faker(("en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL"))
            return Plant("phone", self.e164(fake), name)
        return Plant("phone", fake.phone_number(), name)

    def e164(self, fake: Faker) -> str:
        code, size = self.random.choice(
            (("1", 0), ("44", 10), ("49", 10), ("33", 9), ("34", 9), ("39", 10), ("31", 9), ("61", 9))
        )
        national = self.of("23456789", 1) + self.of("0123456789", 2) + self.of("23456789", 1) + self.of("0123456789", 6)
        return f"+{code}{national if not size else self.of('23456789', 1) + self.of(string.digits, size - 1)}"

    def ssn(self) -> Plant:
        value = self.fakers["en_US"].ssn()
        return Plant("ssn", value.replace("-", self.random.choice(("-", "-", "-", "-", " ", "."))), "en_US")

    def card(self) -> Plant:
        """faker's card numbers (its Maestro has 12 digits, which no card has), and the ranges that faker leaves out:
        Mastercard's second series, UnionPay and Maestro of 16 to 19 digits, Mir. Printed in groups half of the time."""
        fake = self.fakers["en_US"]
        what = self.random.choice(
            ("visa16", "visa16", "mastercard", "amex", "discover", "diners", "jcb16", "visa19", "extra")
        )
        digits = (
            fake.credit_card_number(what)
            if what != "extra"
            else self.luhn(
                *self.random.choice(
                    (("2223", 16), ("2720", 16), ("62", 16), ("62", 19), ("6759", 16), ("6304", 18), ("2200", 16))
                )
            )
        )
        if self.random.random() < 0.5:
            sizes = {15: (4, 6, 5), 14: (4, 6, 4)}.get(len(digits), (4, 4, 4, 4, 4))
            between, at, groups = self.random.choice(" -"), 0, []
            for size in sizes:
                groups.append(digits[at : at + size])
                at += size
            digits = between.join(filter(None, groups))
        return Plant("credit_card", digits, what)

    def luhn(self, prefix: str, size: int) -> str:
        body = prefix + self.of(string.digits, size - len(prefix) - 1)
        total = sum(sum(divmod(int(c) * (2 - k % 2), 10)) for k, c in enumerate(reversed(body)))
        return body + str(-total % 10)

    def ip(self) -> Plant:
        fake = self.fakers["en_US"]
        while True:
            if self.random.random() < 0.6:
                address: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv4Address(fake.ipv4_public())
            elif self.random.random() < 0.5:
                address = ipaddress.IPv6Address(fake.ipv6())
            else:  # as networks are given out: a prefix, zeros, a host
                prefix = self.random.choice(
                    ("2a00:1450:4001", "2606:4700", "2001:4860:4860", "2a02:8108:8ac0", "2400:cb00")
                )
                address = ipaddress.IPv6Address(f"{prefix}::{self.random.randrange(1 << 16):x}")
            if address.is_global and not address.is_multicast and not getattr(address, "is_site_local", False):
                return Plant("ip", str(address), f"ipv{address.version}")

    def iban(self) -> Plant:
        name, fake = self.faker(IBAN_LOCALES)
        value = fake.iban()
        if self.random.random() < 0.5:
            value = " ".join(value[k : k + 4] for k in range(0, len(value), 4))
        return Plant("iban", value, name)

    # --- secrets --------------------------------------------------------------------------------------------
    def secret(self) -> Plant:
        """A key of one of the vendors that the promise names, in the form that their documents give."""
        name = self.random.choice(tuple(VENDORS))
        return Plant("secret", VENDORS[name](self), name)

    def named(self) -> Plant:
        """A secret that only its name gives away: faker's passwords, and what `openssl rand` and uuidgen print."""
        name = self.random.choice(tuple(NAMED))
        return Plant("named", NAMED[name](self), name)

    def json64(self, value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


VENDORS: dict[str, Callable[[Values], str]] = {
    "anthropic": lambda v: f"sk-ant-api03-{v.of(URL64, 93)}AA",
    "anthropic oauth": lambda v: f"sk-ant-oat01-{v.of(URL64, 86)}-{v.of(URL64, 6)}AA",
    "openai": lambda v: f"sk-proj-{v.of(URL64, 74)}T3BlbkFJ{v.of(URL64, 74)}",
    "openai old": lambda v: f"sk-{v.of(ALNUM, 20)}T3BlbkFJ{v.of(ALNUM, 20)}",
    "openai service": lambda v: f"sk-svcacct-{v.of(URL64, 58)}T3BlbkFJ{v.of(URL64, 58)}",
    "aws": lambda v: f"AKIA{v.of(BASE32, 16)}",
    "aws sts": lambda v: f"ASIA{v.of(BASE32, 16)}",
    "github": lambda v: f"gh{v.of('pousr', 1)}_{v.of(ALNUM, 36)}",
    "github fine-grained": lambda v: f"github_pat_{v.of(ALNUM, 22)}_{v.of(ALNUM, 59)}",
    "gitlab": lambda v: f"glpat-{v.of(URL64[:-2], 20)}",
    "gitlab runner": lambda v: f"glrt-{v.of(ALNUM, 20)}",
    "google": lambda v: f"AIzaSy{v.of(URL64, 33)}",
    "google oauth": lambda v: f"GOCSPX-{v.of(URL64, 28)}",
    "slack bot": lambda v: f"xoxb-{v.of(string.digits, 12)}-{v.of(string.digits, 13)}-{v.of(ALNUM, 24)}",
    "slack app": lambda v: (
        f"xapp-1-A{v.of(string.ascii_uppercase + string.digits, 10)}-{v.of(string.digits, 13)}-{v.of(HEX, 64)}"
    ),
    "slack webhook": lambda v: f"hooks.slack.com/services/T{v.of(BASE32, 8)}/B{v.of(BASE32, 8)}/{v.of(ALNUM, 24)}",
    "stripe": lambda v: f"sk_live_{v.of(ALNUM, 24)}",
    "stripe long": lambda v: f"sk_test_51{v.of(ALNUM, 97)}",
    "stripe restricted": lambda v: f"rk_live_{v.of(ALNUM, 24)}",
    "npm": lambda v: f"npm_{v.of(ALNUM, 36)}",
    "pypi": lambda v: f"pypi-AgEIcHlwaS5vcmcC{v.of(URL64, 150)}",
    "azure ad": lambda v: f"{v.of(ALNUM, 3)}8Q~{v.of(ALNUM + '_~.-', 33)}{v.of(ALNUM, 1)}",
    "azure storage": lambda v: f"{v.of(ALNUM + '+/', 76)}+ASt{v.of(ALNUM, 6)}==",
    "azure devops": lambda v: f"{v.of(ALNUM, 76)}AZDO{v.of(ALNUM, 4)}",
    "hugging face": lambda v: f"hf_{v.of(string.ascii_letters, 34)}",
    "jwt": lambda v: ".".join(
        (v.json64({"alg": "HS256", "typ": "JWT"}), v.json64({"sub": v.of(HEX, 12), "iat": 1700000000}), v.of(URL64, 43))
    ),
    "pem": lambda v: (
        "-----BEGIN RSA PRIVATE KEY-----\n"
        + "\n".join(v.of(ALNUM + "+/", 64) for _ in range(6))
        + f"\n{v.of(ALNUM, 30)}==\n-----END RSA PRIVATE KEY-----"
    ),
    "openssh": lambda v: (
        "-----BEGIN OPENSSH PRIVATE KEY-----\n"
        + "\n".join(v.of(ALNUM + "+/", 70) for _ in range(4))
        + "\n-----END OPENSSH PRIVATE KEY-----"
    ),
    "sendgrid": lambda v: f"SG.{v.of(URL64, 22)}.{v.of(URL64, 43)}",
    "groq": lambda v: f"gsk_{v.of(ALNUM, 52)}",
    "openrouter": lambda v: f"sk-or-v1-{v.of(HEX, 64)}",
    "digitalocean": lambda v: f"dop_v1_{v.of(HEX, 64)}",
    "telegram": lambda v: f"{v.of('123456789', 1)}{v.of(string.digits, 9)}:AA{v.of(URL64, 33)}",
}
NAMED: dict[str, Callable[[Values], str]] = {
    "password": lambda v: v.fakers["en_US"].password(length=v.random.randint(10, 20)),
    "password plain": lambda v: v.fakers["en_US"].password(length=12, special_chars=False),
    "password word": lambda v: f"{v.fakers['en_US'].word()}{v.random.randint(10, 9999)}{v.random.choice('!?#$')}",
    "secret hex": lambda v: v.of(HEX, v.random.choice((32, 40, 64))),
    "secret base64": lambda v: base64.b64encode(v.random.randbytes(v.random.choice((24, 32, 48)))).decode(),
    "secret uuid": lambda v: str(v.fakers["en_US"].uuid4()),
    "secret url64": lambda v: v.of(URL64[:-2], v.random.choice((24, 32, 43))),
    "secret aws": lambda v: v.of(ALNUM + "+/", 40),
    "authority": lambda v: v.fakers["en_US"].password(length=14, special_chars=False),
    "bearer": lambda v: v.of(URL64[:-2], 40),
    "basic": lambda v: base64.b64encode(f"{v.fakers['en_US'].user_name()}:{v.of(ALNUM, 12)}".encode()).decode(),
}

# What stands around a value: {} is its place. Chat in several languages, code, configuration, logs.
CARRIERS: dict[str, tuple[str, ...]] = {
    "email": (
        "Please write to {} before Friday.",
        "author = '{}'",
        '  "email": "{}",',
        "to: {}",
        "Ich habe {} schon angeschrieben, aber keine Antwort.",
        "Envíame el informe a {}, gracias",
        "連絡先は{}です。",
        "请发邮件到{}，谢谢",
        "Напишите на {} сегодня",
        "INSERT INTO users (name, email) VALUES ('Joe', '{}');",
        "user.email={}&newsletter=1",
        '<a href="mailto:{}">mail</a>',
        "Signed-off-by: Joe Bloggs <{}>",
        "2024-11-25T13:31:00Z INFO login ok user={} ip=10.0.0.1",
        "| Joe | {} | admin |",
        "Joe,{},active",
        'assert parse("{}") is not None',
        "EMAIL={}",
    ),
    "phone": (
        "Call me: {}",
        "phone: {}",
        '  "phone": "{}",',
        "phone_number = '{}'",
        "Ruf mich bitte an, meine Handynummer ist {}",
        "Tel. {}",
        "mon téléphone : {}",
        "mi teléfono es {}",
        "My mobile is {}, reach me after five.",
        "PHONE={}",
        "<tel>{}</tel>",
        "| phone | {} |",
        'user.setPhone("{}");',
        "fax {}",
        "我的手机：{}",
    ),
    # for numbers whose form tells what they are
    "phone alone": (
        "Reach Joe at {}.",
        "Joe Bloggs,{},active",
        "| Joe | {} |",
        '  "value": "{}",',
        "contact = '{}'",
        "You get me under {} from nine to five",
        "- {}",
        "2024-11-25 13:31:00 INFO message to {} sent",
        "send('{}', text)",
        "我在{}等你",
        "Erreichbar unter {}.",
        "écrivez-moi au {} svp",
    ),
    "ssn": (
        "my SSN is {}",
        "ssn: {}",
        '  "ssn": "{}",',
        "social security number {}",
        "The number on the form is {}.",
        "Joe Bloggs,{},1980-01-01",
        "employee.ssn = '{}'",
        "SSN={}",
    ),
    "credit_card": (
        "card number {}",
        '  "card": "{}",',
        "I paid with {} yesterday, please refund it.",
        "pan='{}'",
        "Joe Bloggs,{},12/27,123",
        'charge(number="{}", cvc="123")',
        "Meine Karte ist {}.",
        "la tarjeta {} fue rechazada",
        "| {} | 12/27 |",
        "CARD={}",
        "2024-11-25 13:31:00 ERROR payment failed for {}",
    ),
    "ip": (
        "client {} connected",
        '{} - - [25/Nov/2024:13:31:00 +0000] "GET / HTTP/1.1" 200 612',
        'host = "{}"',
        '  "remote_addr": "{}",',
        "ping {}",
        "The attack came from {}, I think.",
        "server {} is down",
        "ssh root@{}",
        "Der Server hat die Adresse {}.",
        "ACCEPT {} tcp",
        "- {}",
        "x-forwarded-for: {}",
    ),
    "iban": (
        "IBAN: {}",
        '  "iban": "{}",',
        "Bitte überweise auf {}.",
        "account = '{}'",
        "Joe Bloggs,{},EUR",
        "My account is {}, thanks",
        'transfer(to="{}", amount=10)',
        "mi cuenta es {}",
    ),
    "secret": (
        "{}",
        'key = "{}"',
        "export API_KEY={}",
        '  "apiKey": "{}",',
        "My key is {} and it does not work.",
        "Authorization: Bearer {}",
        "client = Client('{}')",
        "curl -H 'x-api-key: {}' https://api.company.com/",
        "token: {}",
        "https://api.company.com/?key={}&x=1",
        "const token = `{}`;",
        "Mein Schlüssel lautet {}",
        "| production | {} |",
    ),
    "password": (
        'password = "{}"',
        "password: {}",
        '  "password": "{}",',
        "DB_PASSWORD={}",
        "db_password = '{}'",
        "mysql --password={} -u root",
        "curl -d 'user=joe' -d 'password={}' https://x.company.com",
        'login(user="joe", password="{}")',
        "const passwd = '{}';",
        "spring.datasource.password={}",
        "<password>{}</password>",
        "userPassword: '{}',",
        "My password is {}",
        '{{\\"password\\":\\"{}\\"}}',
    ),
    "secret value": (
        'api_key = "{}"',
        '  "apiKey": "{}",',
        "API_KEY={}",
        "export STRIPE_SECRET={}",
        "client_secret: {}",
        "  secret: '{}'",
        "access_token={}",
        "x-api-key: {}",
        "const secretKey = '{}';",
        'private_key="{}"',
        'auth_token: "{}",',
        "aws_secret_access_key = {}",
        "AccountKey={};EndpointSuffix=core.windows.net",
        "ENCRYPTION_KEY='{}'",
    ),
    "authority": (
        "postgres://joe:{}@db.company.com:5432/app",
        "DATABASE_URL=mysql://root:{}@10.0.0.1/x",
        '"redis://default:{}@cache:6379/0"',
        "git clone https://joe:{}@git.company.com/x.git",
    ),
    "bearer": (
        "Authorization: Bearer {}",
        'curl -H "Authorization: Bearer {}" https://x',
        '"authorization": "Bearer {}"',
    ),
    "basic": ("Authorization: Basic {}", "headers = {{'Authorization': 'Basic {}'}}"),
}
AMBIGUOUS = {"phone", "ssn"}  # their carriers name them where the digits alone do not tell


def carriers(plant: Plant) -> tuple[str, ...]:
    if plant.kind == "phone" and not plant.value.isdigit():
        return CARRIERS["phone"] + CARRIERS["phone alone"]
    if plant.kind != "named":
        return CARRIERS[plant.kind]
    return CARRIERS[{"pa": "password", "se": "secret value"}.get(plant.source[:2], plant.source)]


def plants(values: Values, count: int) -> Iterator[tuple[Plant, str, int]]:
    """(plant, a line that carries it, where in the line it begins), the kinds in turn."""
    draws = (values.email, values.phone, values.ssn, values.card, values.ip, values.iban, values.secret, values.named)
    for number in range(count):
        plant = draws[number % len(draws)]()
        options = carriers(plant)
        bare = plant.value.replace(" ", "").replace(".", "").isdigit() or plant.value.isdigit()
        if plant.kind == "ssn" and bare:
            options = tuple(c for c in options if "ssn" in c.lower() or "social" in c.lower())
        carrier = values.random.choice(options)
        before, _, after = carrier.replace("{{", "{").replace("}}", "}").partition("{}")
        yield plant, before + plant.value + after, len(before)
