"""What is personal data and what only looks like it: one table per detector, each format with its source.

What is to be found is found whole, alone and inside other text; «...» marks it where a row has more than that. In the
rows of ..._NOT nothing is found. Numbers are test numbers of their issuers, from ranges for fiction, or made up.
"""

# ruff: noqa: RUF001 (letters and digits of other scripts are what this is about)
from __future__ import annotations

import pytest

from lunaroute._fast.pii import KINDS, Scanner

ALL = Scanner(KINDS)


def found(text: str, scanner: Scanner = ALL, context: str = "") -> list[tuple[str, str, str]]:
    raw = text.encode()
    return [(raw[a:b].decode(), kind, name) for a, b, kind, name in scanner.find(raw, context.encode())]


def marked(row: str) -> tuple[str, list[str]]:
    """The text without its marks, and what they surround."""
    parts = row.replace("»", "«").split("«")
    return "".join(parts), parts[1::2] or ["".join(parts)]


EMAIL = [
    # RFC 5322 3.4.1, as people have them
    "joe.bloggs@gmail.com",
    "joe+lists@mail.uni-jena.de",
    "j_d-1@sub.domain.co.uk",
    "o'brien@mail.ie",
    "1234567@qq.com",
    "a@b.co",
    "JOE.BLOGGS@GMAIL.COM",
    # around it: code, URLs, markup
    "CONTACT_EMAIL='«joe@posteo.de»'",
    "to=b'«joe@posteo.de»'",
    "email=«joe@posteo.de»&x=1",
    "mailto:«joe@posteo.de»?subject=hi",
    "<«joe@posteo.de»>",
    "Joe <«joe@posteo.de»>, Ann <«ann@web.de»>",
    "joe,«joe@posteo.de»,42",
    "|«joe@posteo.de»|",
    "Write to «joe@posteo.de». Thanks!",
    "Write to «joe@posteo.de».Thanks",
    "-«joe@posteo.de»",
    '{\\"mail\\": \\"«joe@posteo.de»\\"}',
    "first line\\n«joe@posteo.de»\\nlast",
    "q=«joe%40posteo.de»&page=2",
    'to «"john doe"@posteo.de» now',  # RFC 5321 4.1.2, quoted
    # newer top-level domains, IANA's root zone
    "joe@smith.photography",
    "joe@smith.xn--p1ai",
    # RFC 6531: letters of any script on both sides
    "jörg@müller.de",
    "用户@例子.广告",
    "пётр@почта.рф",
    "邮箱是«joe@posteo.de»",
    "メールは«joe@posteo.de»です",
    "„«joe@posteo.de»“",
    # full-width forms, zero-width characters
    "«joe＠posteo.de»",
    "«ｊｏｅ＠ｐｏｓｔｅｏ．ｄｅ»",
    "«joe\u200b@posteo.de»",
    "«joe@\u200bposteo.de»",
    "«joe@pos\u200bteo.de»",
    "«jo\u00ade@posteo.de»",
]
EMAIL_NOT = [
    "git@github.com:user/repo.git",
    "git clone git@gitlab.company.com:group/project.git",
    "ssh deploy@web1.company.com",
    "ssh -i key -p 2222 deploy@web1.company.com uptime",
    "scp file deploy@web1.company.com:/srv/",
    "rsync -av x/ deploy@web1.company.com:backup/x",
    "deploy@web1.company.com:~$ ls",
    "https://user@host.company.com/path",
    "https://user:${PASSWORD}@host.company.com/path",
    "git+ssh://git@github.com/npm/cli.git#v1.0.27",
    "@decorator",
    "@app.route('/')",
    "x = a@b.T",
    "q@k.mT",
    "y = x@w.to(device)",
    "scores = q@keys.weight",
    "@types/node",
    "npm install @babel/core@7.24.0",
    "lodash@4.17.21",
    '"@babel/core@npm:^7.0.0":',
    "resolved react@18.2.0.tgz",
    "getty@tty1.service",
    "user@1000.service",
    "icon@2x.png",
    "foo@bar.py",
    "logo@3x.webp",
    "root@localhost",
    "joe@example.com",
    "joe@mail.example.org",
    "joe@host.test",
    "joe@Joes-MacBook-Pro.local",
    "foo@",
    "@foo.com",
    "a @ b.com",
    "ab@cd",
    "..@posteo.de",
]

PHONE = [
    # ITU-T E.164, E.123: international
    "+14155552671",
    "+1 415 555 2671",
    "+1-415-555-2671",
    "+1 (415) 555-2671",
    "+1.415.555.2671",
    "+442079460018",
    "+44 20 7946 0018",
    "+44 (0)20 7946 0018",
    "+4930123456",
    "+49 30 123456",
    "+49 (0)30 123456",
    "+49(0)30 123456",
    "(+49) 30 123456",
    "+33 1 23 45 67 89",
    "+33 (0)1 23 45 67 89",
    "+91 98123 45670",
    "+91-98123-45670",
    "+81 3-1234-5678",
    "+86 138 0013 8000",
    "+55 11 91234-5678",
    "+7 495 123-45-67",
    "+41 44 668 18 00",
    "+61 2 9374 4000",
    "+353 1 543 4000",
    "+972-3-746-6400",
    "+48 22 123 45 67",
    "+354 555 1234",
    "+65 6123 4567",
    "0049 30 1234567",
    "001-415-555-2671",
    # NANPA: numbering plan, printed forms
    "(415) 555-2671",
    "(415)555-2671",
    "415-555-2671",
    "415.555.2671",
    "415 555 2671",
    "415 555-2671",
    "1-415-555-2671",
    "1 415 555 2671",
    "415-555-2671 x1234",
    "(415) 555-2671 ext. 12",
    "415-555-2671x123",
    "+1-415-555-2671x89",
    # Ofcom: the National Telephone Numbering Plan, numbers for drama
    "020 7946 0018",
    "(020) 7946 0018",
    "01632 960123",
    "(01632) 960 123",
    "0161 496 0018",
    "07700 900123",
    "07700 900 123",
    # Bundesnetzagentur, DIN 5008: numbers for drama
    "030 23125014",
    "030/23125014",
    "(030) 23125014",
    "0221-4710123",
    "0171 3920012",
    "(0621) 12345-67",
    # Arcep: pairs
    "01 99 00 12 34",
    "06.39.98.12.34",
    "06-39-98-12-34",
    # TRAI, DoT: 10 digits
    "98123 45670",
    "098123 45670",
    "022-26543210",
    # digits that only a word gives away
    "phone: «4155552671»",
    'phone_number = "«4155552671»"',
    '"phoneNumber": "«4155552671»"',
    "Tel.: «030123456»",
    "Tél : «0199001234»",
    "call me at «5552671»",
    "cell «415 5552671»",
    "fax «555-2671»",
    "WhatsApp «9812345670»",
    "my number is «9812345670»",
    "电话：«13800138000»",
    "手机号 «138 0013 8000»",
    "電話 «03-1234-5678»",
    "телефон «8 495 123-45-67»",
    "tel:«+14155552671»",
    "https://wa.me/«+14155552671»",
    "?phone=«%2B14155552671»",
    "<a href='tel:«415-555-2671»'>",
    # broken by a line, in other digits
    "+1 415\n555 2671",
    "415-555-\n2671",
    "«＋１４１５５５５２６７１»",
    "«４１５-５５５-２６７１»",
    "«415\u2011555\u20112671»",  # non-breaking hyphens
    "«+44\u00a020\u00a07946\u00a00018»",
    "«415\u200b-555-2671»",
]
PHONE_NOT = [
    "1700000000",  # epoch, seconds
    "1700000000000",
    "1700000000123456789",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "1700000000 +0100",  # git's dates
    "Date: Mon, 25 Nov 2024 13:31:00 +0530",
    "2024-11-25T13:31:00.123456+05:30",
    "2024-11-25 13:31:00",
    "550e8400-e29b-41d4-a716-446655440000",
    "file.py:123:4567",
    "M 415 555 2671 L 10 20",
    "d='M10 20 415 555 2671 30'",
    "10.5.5.5.5.5",
    "[415, 555, 2671]",
    "415,555,2671",
    "0.4155552671",
    "x = 4155552671",
    "id=4155552671",
    "x+14155552671",
    "f(x)+14155552671",
    "v1.415.555.2671",
    "123-456-7890",  # no area code begins with 1
    "0123456789",
    "9876543210",
    "01 02 03 04 05 06 07 08",
    "de ad 01 99 00 12 34 be ef",
    "00 01 02 03",
    "chmod 0755 0644",
    "978-3-16-148410-0",  # ISBN
    "10.1000/182",
    "1234567-89",
    "12345678901234567890",
    "-73.985130, 40.758896",
    "1,234,567,890",
    "0x4155552671",
    "4155552671L",
    "#4155552671",
    "1e+14155552671",
    "2001:db8:4155:5526:71::",
    "sha256-4155552671abcdef",
    "415_555_2671",
    "2345678901234567892-415-2671",
    "2345678901234567892 415 2671",
    "tel.py",
]

SSN = [
    # 20 CFR 422.103; SSA: area, group, serial
    "123-45-6789",
    "457-55-5462",
    "899-99-9999",
    "001-01-0001",
    "SSN: «123 45 6789»",
    "SSN «123.45.6789»",
    "my ssn is «123456789»",
    "ssn: «785-50-6457»\n-0.1560933767",
    "social security number «123456789»",
    '"ssn": "«123456789»"',
    "«123 45 6789»",
    "It is «123.45.6789», I think",
    "123-45-\n6789",
    "«１２３-４５-６７８９»",
    "«123\u201345\u20136789»",
    "«123\u200b-45-6789»",
]
SSN_NOT = [
    "000-12-3456",
    "666-12-3456",
    "900-12-3456",
    "987-65-4321",
    "123-00-4567",
    "123-45-0000",
    "123456789",
    "1123-45-6789",
    "123-45-67890",
    "1-123-45-6789",
    "123-45-6789-1",
    "a123-45-6789",
    "123-45-6789a",
    "10 123 45 6789 20",
    "M123 45 6789L",
    "[123 45 6789]",
    "1.123.45.6789",
    "123.45.6789.1",
    "0.123.45.6789",
    "123,45,6789",
]

CARD = [
    # ISO/IEC 7812; test numbers of Stripe, Adyen, PayPal and Worldpay
    ("4242424242424242", "visa"),
    ("4111 1111 1111 1111", "visa"),
    ("4111-1111-1111-1111", "visa"),
    ("4012888888881881", "visa"),
    ("card «4222222222222»", "visa"),  # 13
    ("4000 0000 0000 0000 006", "visa"),  # 19
    ("5555555555554444", "mastercard"),
    ("5105 1051 0510 5100", "mastercard"),
    ("2223003122003222", "mastercard"),  # 2-series, since 2017
    ("2720 9900 0000 0007", "mastercard"),
    ("378282246310005", "amex"),
    ("3782 822463 10005", "amex"),
    ("3714-496353-98431", "amex"),
    ("6011111111111117", "discover"),
    ("6011 0009 9013 9424", "discover"),
    ("30569309025904", "diners"),
    ("3852 000002 3237", "diners"),
    ("36227206271667", "diners"),
    ("3530111333300000", "jcb"),
    ("3566 0020 2036 0505", "jcb"),
    ("6200000000000005", "unionpay"),
    ("6205 5000 0000 0000 004", "unionpay"),  # 19
    ("6759649826438453", "maestro"),
    ("6304 0000 0000 0000", "maestro"),
    ("2200000000000004", "mir"),
    ("card=«4242424242424242»", "visa"),
    ('"number":"«4242424242424242»"', "visa"),
    ("«4242424242424242»,12/27,123", "visa"),
    ("«4242 4242 4242 4242» 12/27 123", "visa"),
    ("No. «4242424242424242».", "visa"),
    ("4242 4242\n4242 4242", "visa"),
    ("42424242\n42424242", "visa"),
    ("4242-4242-\n4242-4242", "visa"),
    ("first\\n«4242424242424242»\\n", "visa"),
    ("«４２４２４２４２４２４２４２４２»", "visa"),
    ("«4242\u00a04242\u00a04242\u00a04242»", "visa"),
    ("«4242\u200b424242424242»", "visa"),
    ("«4242\u20114242\u20114242\u20114242»", "visa"),
]
CARD_NOT = [
    "4242424242424243",  # Luhn
    "4242 4242 4242 4243",
    "1700000000123456",
    "1700000000000000000",
    "0.4242424242424242",
    "1.4242424242424242e+16",
    "a4242424242424242",
    "4242424242424242n",
    "4242424242424242.5",
    "42424242424242424242",
    "4242424242424242-4242",
    "10-4242-4242-4242-4242",
    "4242 4242 4242 4242 4242",
    "4503599627370496",  # 2 ** 52
    "9007199254740992",
    "18446744073709551616",
    "0x4242424242424242",
    "4444444444444444",
    "424242424242",
    "550e8400-e29b-41d4-a716-424242424242",
    "[4242,4242,4242,4242]",
    "deadbeef4242424242424242",
]

IPS = [
    ("93.184.215.14", "ipv4"),
    ("ip=«93.184.215.14»", "ipv4"),
    ("http://«93.184.215.14»/x", "ipv4"),
    ("http://«93.184.215.14»:8080/", "ipv4"),
    ("«93.184.215.14»:443", "ipv4"),
    ("«93.184.215.0»/24", "ipv4"),
    ("«93.184.215.1»-«93.184.215.9»", "ipv4"),
    ("from «93.184.215.14», then", "ipv4"),
    ("at «93.184.215.14».", "ipv4"),
    ("root@«93.184.215.14»", "ipv4"),
    ("nameserver «8.8.8.8»", "ipv4"),
    ("ping «1.1.1.1»", "ipv4"),
    ("[«93.184.215.14»]", "ipv4"),
    ("dns.google/«93.184.215.14»:53", "ipv4"),  # Java's InetSocketAddress
    ("«９３.１８４.２１５.１４»", "ipv4"),
    # RFC 4291 2.2, RFC 5952: whole, compressed, mixed; RFC 4007: zones
    ("2a00:1450:4001:082b:0000:0000:0000:200e", "ipv6"),
    ("2a00:1450:4001:82b::200e", "ipv6"),
    ("2606:2800:220:1:248:1893:25c8:1946", "ipv6"),
    ("2001:4860:4860::8888", "ipv6"),
    ("2001:4860:4860::", "ipv6"),
    ("2A00:1450:4001:82B::200E", "ipv6"),
    ("::ffff:93.184.215.14", "ipv6"),
    ("::ffff:5db8:d70e", "ipv6"),
    ("64:ff9b::93.184.215.14", "ipv6"),
    ("[«2001:4860:4860::8888»]:443", "ipv6"),
    ("http://[«2001:4860:4860::8888»]/", "ipv6"),
    ("«2001:4860:4860::8888»/64", "ipv6"),
    ("«2001:4860:4860::8888%eth0»", "ipv6"),
    ("at «2001:4860:4860::8888».", "ipv6"),
    ("host «2001:4860:4860::8888»: unreachable", "ipv6"),
    ("2002:5db8:d70e::1", "ipv6"),
]
IPS_NOT = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.251",
    "192.0.2.1",  # RFC 5737, documentation
    "198.51.100.7",
    "203.0.113.9",
    "100.64.0.1",
    "::1",
    "::",
    "fe80::1%eth0",
    "fd00::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "8.1.2.2",  # a section
    "see section 8.1.2.2",
    "version 93.184.215.14",
    "v93.184.215.14",
    "pkg==93.184.215.14",
    "pkg-93.184.215.14.tar.gz",
    "Chrome/114.0.57.90",
    "~93.184.215.14",
    "93.184.215.14.5",
    "1.93.184.215.14",
    "93.184.215.14-rc1",
    "93.184.215.14-1",
    "93.184.215.256",
    "093.184.215.14",
    "M5.5.5.5.5",
    "0.5.5.5",
    ".5.5.5.5",
    "1.0.0.0",
    "2.5.29.15",  # arcs of object identifiers
    "1.3.101.112",
    "ObjectIdentifier('93.184.215.14')",
    "3.51 93.184.215.14 2.03",
    "1.3.6.1",
    "1.2.3.4.in-addr.arpa",
    "std::vector",
    "a::b",
    "dead::beef",
    "12:34:56",
    "00:1a:2b:3c:4d:5e",  # MAC
    "1:2:3",
    "abc::def::add",
    "x[::2]",
    "::before",
    "12:34:56:78:9a:bc:de:f0:12:34:56:78",
    '{"a":12,"b":34}',
]

IBANS = [
    # ISO 13616; examples of the SWIFT registry, the ECBS and the banks
    "DE89370400440532013000",
    "DE89 3704 0044 0532 0130 00",
    "DE89-3704-0044-0532-0130-00",
    "GB82WEST12345698765432",
    "GB82 WEST 1234 5698 7654 32",
    "FR1420041010050500013M02606",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NL91ABNA0417164300",
    "BE68539007547034",
    "ES9121000418450200051332",
    "IT60X0542811101000000123456",
    "CH9300762011623852957",
    "AT611904300234573201",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
    "SA0380000000608010167519",
    "LC55HEMM000100010012001200023015",
    "BR1800360305000010009795493C1",
    "PL61109010140000071219812874",
    "TR330006100519786457841326",
    "DE 89 3704 0044 0532 0130 00",
    "de89370400440532013000",
    "IBAN:«DE89370400440532013000».",
    "IBAN «DE89 3704 0044\n0532 0130 00»",
    "x\\n«DE89370400440532013000»\\n",
    "«DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000»",
]
IBANS_NOT = [
    "DE88370400440532013000",
    "DE8937040044053201300",
    "DE893704004405320130001",
    "XDE89370400440532013000",
    "XX89370400440532013000",
    "GB82 1234 5698 7654 3210 00",
    "DE89",
    "BE68 5390 0754",
]


def cases(rows: list[str] | list[tuple[str, str]], kind: str) -> list[object]:
    return [pytest.param(*((row, "") if isinstance(row, str) else row), kind, id=f"{kind}: {row!r}") for row in rows]


POSITIVE = [
    *cases(EMAIL, "email"),
    *cases(PHONE, "phone"),
    *cases(SSN, "ssn"),
    *cases(CARD, "credit_card"),
    *cases(IPS, "ip"),
    *cases(IBANS, "iban"),
]


@pytest.mark.parametrize(("row", "name", "kind"), POSITIVE)
@pytest.mark.parametrize("frame", ["{}", "see {} there", '{{"x": "{}"}}', "({})", "line\n{}\nline", "x: {}, y"])
def test_it_is_found_whole(row: str, name: str, kind: str, frame: str) -> None:
    text, values = marked(row)
    got = found(frame.format(text))
    assert [value for value, _, _ in got] == values
    assert {each for _, each, _ in got} == {kind}
    if name:
        assert got[0][2] == name


@pytest.mark.parametrize("text", [*EMAIL_NOT, *PHONE_NOT, *SSN_NOT, *CARD_NOT, *IPS_NOT, *IBANS_NOT], ids=repr)
@pytest.mark.parametrize("frame", ["{}", "see {} there", '{{"x": "{}"}}', "line\n{}\nline"])
def test_it_only_looks_like_it(text: str, frame: str) -> None:
    assert found(frame.format(text) if "{}" not in text else text) == []


def test_addresses_that_reach_nobody_are_found_where_wanted() -> None:
    scanner = Scanner(("ip",), private_addresses=True)
    for address in ("127.0.0.1", "10.0.0.1", "192.168.1.1", "192.0.2.1", "fe80::1", "fd00::1", "2001:db8::1", "::1"):
        assert found(f"host {address} is", scanner) == [(address, "ip", "ipv6" if ":" in address else "ipv4")]


def test_domains_of_nobody_are_found_where_wanted() -> None:
    scanner = Scanner(("email",), reserved_domains=True)
    for address in ("joe@example.com", "joe@mail.example.org", "joe@host.test", "joe@pc.local"):
        assert found(f"to {address} now", scanner) == [(address, "email", "email")]
