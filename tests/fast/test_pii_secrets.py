"""Secrets: keys in the forms of their vendors, tokens, private keys, and values that only the name before them gives
away.

No key here is one: they are drawn when the test runs, in the form that the vendor documents (or, where a vendor
documents none, that secret scanners agree on). `{a36}` stands for 36 letters and digits; the alphabets are below.
"""

from __future__ import annotations

import random
import re
import string

import pytest

from lunaroute._fast.pii import KINDS, NAMES, Scanner

ALL = Scanner(KINDS)
ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "l": string.ascii_letters,
    "d": string.digits,
    "h": "0123456789abcdef",
    "u": string.ascii_uppercase + string.digits,
    "n": string.ascii_lowercase + string.digits,
    "2": string.ascii_uppercase + "234567",
    "s": string.ascii_letters + string.digits + "-_",
    "b": string.ascii_letters + string.digits + "+/",
}
VENDORS = [
    # Anthropic: platform docs, API keys; what Claude Code keeps after a login
    ("anthropic_key", "sk-ant-api03-{s93}AA"),
    ("anthropic_key", "sk-ant-admin01-{s93}AA"),
    ("anthropic_key", "sk-ant-oat01-{s95}"),
    ("anthropic_key", "sk-ant-ort01-{s95}"),
    # OpenAI: API reference, authentication; the marker T3BlbkFJ is "OpenAI" in base64
    ("openai_key", "sk-{a20}T3BlbkFJ{a20}"),
    ("openai_key", "sk-proj-{s74}T3BlbkFJ{s74}"),
    ("openai_key", "sk-svcacct-{s58}T3BlbkFJ{s58}"),
    ("openai_key", "sk-admin-{s58}T3BlbkFJ{s58}"),
    ("openai_key", "sk-{h32}"),  # DeepSeek
    # AWS: IAM identifiers; STS; Bedrock API keys
    ("aws_access_key", "AKIA{216}"),
    ("aws_access_key", "ASIA{216}"),
    ("aws_session_token", "IQoJb3JpZ2luX2Vj{b200}"),
    ("aws_bedrock_key", "ABSK{b128}"),
    # GitHub: about authentication, token formats
    ("github_token", "ghp_{a36}"),
    ("github_token", "gho_{a36}"),
    ("github_token", "ghu_{a36}"),
    ("github_token", "ghs_{a36}"),
    ("github_token", "ghr_{a36}"),
    ("github_token", "github_pat_{a22}_{a59}"),
    # GitLab: security, token overview
    ("gitlab_token", "glpat-{a20}"),
    ("gitlab_token", "glpat-{a27}.01.{a9}"),
    ("gitlab_token", "gldt-{a20}"),
    ("gitlab_token", "glrt-{a20}"),
    ("gitlab_token", "glcbt-{a2}_{a20}"),
    ("gitlab_token", "glptt-{h40}"),
    # Google: API keys, OAuth
    ("google_api_key", "AIzaSy{s33}"),
    ("google_client_secret", "GOCSPX-{s28}"),
    ("google_oauth_token", "ya29.a0{s160}"),
    # Slack: token types, incoming webhooks
    ("slack_token", "xoxb-{d12}-{d13}-{a24}"),
    ("slack_token", "xoxp-{d12}-{d12}-{d13}-{h32}"),
    ("slack_token", "xapp-1-A{u10}-{d13}-{h64}"),
    ("slack_token", "xoxe.xoxp-1-{a160}"),
    ("slack_webhook", "hooks.slack.com/services/T{u8}/B{u10}/{a24}"),
    # Stripe: keys
    ("stripe_key", "sk_live_{a24}"),
    ("stripe_key", "sk_test_51{a97}"),
    ("stripe_key", "rk_live_{a24}"),
    ("stripe_webhook_secret", "whsec_{a32}"),
    # npm: about access tokens; PyPI: API tokens (a macaroon for pypi.org)
    ("npm_token", "npm_{a36}"),
    ("pypi_token", "pypi-AgEIcHlwaS5vcmcC{s150}"),
    # Microsoft: identifiable secrets; client secrets of Entra ID
    ("azure_client_secret", "{a3}8Q~{s34}"),
    ("azure_storage_key", "{b76}+ASt{a6}=="),
    ("azure_devops_token", "{a76}AZDO{a4}"),
    ("azure_ai_key", "{a52}JQQJ99{a26}"),
    # Hugging Face: security tokens
    ("huggingface_token", "hf_{l34}"),
    # others, by their documentation
    ("openrouter_key", "sk-or-v1-{h64}"),
    ("sendgrid_key", "SG.{s22}.{s43}"),
    ("twilio_key", "SK{h32}"),
    ("mailgun_key", "key-{h32}"),
    ("telegram_bot_token", "{d10}:AA{s33}"),
    ("discord_webhook", "discord.com/api/webhooks/{d18}/{s68}"),
    ("digitalocean_token", "dop_v1_{h64}"),
    ("shopify_token", "shpat_{h32}"),
    ("linear_key", "lin_api_{a40}"),
    ("notion_token", "ntn_{d11}{a35}"),
    ("figma_token", "figd_{s40}"),
    ("atlassian_token", "ATATT3xFfGF0{s175}={h8}"),
    ("vault_token", "hvs.{s90}"),
    ("terraform_token", "{a14}.atlasv1.{s64}"),
    ("pulumi_token", "pul-{h40}"),
    ("grafana_token", "glsa_{a32}_{h8}"),
    ("grafana_token", "glc_{b100}"),
    ("sentry_token", "sntryu_{h64}"),
    ("newrelic_key", "NRAK-{u27}"),
    ("databricks_token", "dapi{h32}"),
    ("doppler_token", "dp.pt.{a43}"),
    ("supabase_token", "sbp_{h40}"),
    ("netlify_token", "nfp_{a36}"),
    ("fly_token", "fm2_{b120}"),
    ("replicate_token", "r8_{a37}"),
    ("groq_key", "gsk_{a52}"),
    ("perplexity_key", "pplx-{a48}"),
    ("xai_key", "xai-{a80}"),
    ("langsmith_key", "lsv2_pt_{h32}_{h10}"),
    ("nvidia_key", "nvapi-{s64}"),
    ("airtable_token", "pat{a14}.{h64}"),
    ("age_key", "AGE-SECRET-KEY-1{u58}"),
    ("docker_token", "dckr_pat_{a27}"),
    ("rubygems_key", "rubygems_{h48}"),
    ("crates_token", "cio{a32}"),
    ("nuget_key", "oy2{n43}"),
    ("planetscale_token", "pscale_tkn_{s43}"),
    ("circleci_token", "CCIPAT_{a22}_{h40}"),
    ("tailscale_key", "tskey-auth-{a17}-{a32}"),
    ("postman_key", "PMAK-{h24}-{h34}"),
    # RFC 7519, RFC 7515 3.3 and RFC 7516 3.3: three parts, none of a signature, five parts
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx{s20}.{s43}"),
    ("jwt", "eyJhbGciOiJub25lIn0K.eyJzdWIiOiIx{s20}."),
    ("jwt", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.{s300}.{s16}.{s80}.{s22}"),
]
PEMS = [
    # RFC 7468, RFC 5958, RFC 1421 (headers); OpenSSH PROTOCOL.key; RFC 9580 6.2
    "-----BEGIN PRIVATE KEY-----\n{b64}\n{b64}\n{b20}=\n-----END PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\r\n{b64}\r\n{b64}\r\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----\n{b64}\n-----END EC PRIVATE KEY-----",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{b64}\n-----END ENCRYPTED PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{h32}\n\n{b64}\n"
    "-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\n{b70}\n{b70}\n-----END OPENSSH PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: GnuPG v2\n\n{b64}\n{b64}\n={b4}\n"
    "-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN PRIVATE KEY----- {b64} {b64} {b20} -----END PRIVATE KEY-----",  # in a variable of the environment
    "-----BEGIN PRIVATE KEY-----\\n{b64}\\n{b64}\\n-----END PRIVATE KEY-----",  # in JSON that was a string
    "    -----BEGIN PRIVATE KEY-----\n    {b64}\n    {b64}\n    -----END PRIVATE KEY-----",  # in YAML
    "-----BEGIN PRIVATE KEY-----\n{b64}\n{b64}",  # cut off
]
NAMED = [
    # name and value as people write them; «» around what is found
    ("password", "password = '«hunter2»'"),
    ("password", 'password: "«correct-Horse!»"'),
    ("password", "password: «hunter2»\n"),
    ("password", '{"password": "«S3cr3t!pw»"}'),
    ("password", '{\\"password\\": \\"«S3cr3t!pw»\\"}'),
    ("password", "DB_PASSWORD=«Xk3$mmq!»"),
    ("password", "export PGPASSWORD=«Xk3mmq9a»"),
    ("password", "spring.datasource.password=«Xk3mmq9a»"),
    ("password", "mysql -u root --password=«Xk3mmq9a» x"),
    ("password", "tool --password «Xk3mmq9a» x"),
    ("password", "login(user='joe', password='«Xk3mmq9a»')"),
    ("password", "login(password=b'«Xk3mmq9a»')"),
    ("password", "password: str = '«Xk3mmq9a»'"),
    ("password", "if password == '«Xk3mmq9a»':"),
    ("password", "$password => '«Xk3mmq9a»',"),
    ("password", "os.environ['DB_PASSWORD'] = '«Xk3mmq9a»'"),
    ("password", 'setProperty("password", "«Xk3mmq9a»")'),
    ("password", "<password>«Xk3mmq9a»</password>"),
    ("password", '<add key="password" value="«Xk3mmq9a»" />'),
    ("password", "user=joe&password=«Xk3mmq9a»&x=1"),
    ("password", "Server=db;User Id=sa;Password=«Xk3mmq9a»;"),
    ("password", "my password is «Xk3mmq9a»"),
    ("password", "machine git.company.com login joe@x.de password «Xk3mmq9a»"),  # .netrc
    ("password", "machine git.company.com\n  login joe\n  password «Xk3mmq9a»"),
    ("password", "curl -s -u joe:«Xk3mmq9a» https://api.company.com/"),
    ("password", "curl -H \"Accept: x\" --user 'joe:«Xk3-mm:q9a»' https://api.company.com/"),
    ("password", "passwd: «Xk3mmq9a»"),
    ("password", "userPassword: '«Xk3mmq9a»',"),
    ("password", "password2 = '«Xk3mmq9a»'"),
    ("password", "passphrase: '«purple monkey dishwasher lamp»'"),
    ("secret_key", "api_key = '«{a32}»'"),
    ("secret_key", "apiKey: '«{h32}»',"),
    ("secret_key", "OPENAI_API_KEY=«{a40}»"),
    ("secret_key", "x-api-key: «{a40}»"),
    ("secret_key", "aws_secret_access_key = «{b40}»"),
    ("secret_key", "AccountKey=«{b86}==»;EndpointSuffix=core.windows.net"),
    ("secret_key", "SharedAccessKey=«{b43}=»"),
    ("secret_key", "?sv=2022-11-02&sig=«{a40}%3D»"),
    ("secret", "client_secret: «{a32}»"),
    ("secret", "CLIENT_SECRET='«{s40}»'"),
    ("secret", '"secret": "«550e8400-e29b-41d4-a716-446655440000»"'),
    ("secret", 'jwtSecret = "«{b43}=»"'),
    ("token", "access_token=«{a40}»"),
    ("token", "//registry.npmjs.org/:_authToken=«{h36}»"),
    ("token", 'auth_token: "«{a40}»",'),
    ("token", "bot.run(token='«{a24}.{a6}.{s27}»')"),
    ("authorization", "Authorization: Bearer «{a40}»"),
    ("authorization", "authorization: token «{h40}»"),
    ("authorization", '"Authorization": "Bearer «{s40}»"'),
    ("authorization", "curl -H 'Authorization: Basic «am9lOnMzY3IzdA==»'"),
    ("authorization", "use Bearer «{a40}» there"),
    # RFC 3986 3.2.1
    ("url_password", "postgres://joe:«Xk3mmq9a»@db.company.com:5432/app"),
    ("url_password", "redis://:«Xk3mmq9a»@cache:6379"),
    ("url_password", "amqp://joe:«p@ss9w0rd»@mq/"),
    ("url_password", "https://joe:«Xk3%40mmq9a»@git.company.com/x.git"),
]
NO_SECRETS = [
    "password = get_password()",
    "password = os.environ['PASSWORD']",
    "password = config.password2",
    "password=self.password",
    "password: string;",
    "password: Optional[str] = None",
    "password = password1",
    "the login has password fields1",
    "curl -u joe https://api.company.com/",
    "curl -u $USER:$TOKEN https://api.company.com/",
    "docker run -u 1000:1000 image",
    "chown user joe:users12 file",
    "password=SecretBytes(b'a1b2c3d4')",
    "redis://[&lt;user&gt;[:&lt;password&gt;]@]&lt;host&gt;",
    "login(user, password=pw1)",
    "def login(user, password): pass",
    "password = '${DB_PASSWORD}'",
    "password: {{ vault_password }}",
    "password: <your-password>",
    "password = '********'",
    "password = 'changeme'",
    "password: '',",
    '"password": "Enter your password"',
    '"passwordLabel": "Password2"',
    '"type": "password"',
    "PASSWORD_HASHERS = ['django.contrib.auth.hashers.PBKDF2PasswordHasher']",
    "password_encryption = 'scram-sha-256'",
    "passwords = ['a1b2c3d4']",
    "password_field1 = 'id_password1'",
    "PWD=/home/joe/src",
    "pass",
    "passed: 12345",
    "encompass: 'a1b2c3d4e5'",
    "secret = secrets.token_hex(32)",
    "secret: SecretStr",
    "secretName: my-app-secret",
    "secretKeyRef:\n  name: db\n  key: password",
    "client_secret = 'your_client_secret_1'",
    '"secret": "string"',
    "token = tokens[i]",
    "token: Token",
    "token = 'access_token'",
    "max_tokens: 4096",
    "next_page_token: 'CAUQAA9f8e7d6c5b4a39281706'",
    '"nextToken": "a1b2c3d4e5f60718293a4b5c6d7e8f90"',
    "eos_token = '<|endoftext|>'",
    "tokenizer = 'cl100k_base'",
    "token_type: bearer",
    "key = 'a1b2c3d4e5f60718293a4b5c6d7e8f90'",
    "cache_key: a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "primary_key = 'a1b2c3d4e5f60718293a4b5c6d7e8f90'",
    "public_key: a1b2c3d4e5f60718293a4b5c6d7e8f90",
    "api_key_id = 'a1b2c3d4e5f60718'",
    "api_key = config['api_key']",
    "api_key=settings.OPENAI_API_KEY",
    "apiKey: process.env.OPENAI_API_KEY2,",
    'api_key = "YOUR_API_KEY_12345"',
    "private_key: ed25519.Ed25519PrivateKey,",
    "privateKey: CertificateIssuerPrivateKeyTypes,",
    '"AWS::IAM::AccessKey": "62d91b17309e76c8a1b2"',
    "arn:aws:secretsmanager:us-west-2:123456789012:secret:MyTestSecret-a1b2c3",
    "Authorization: Bearer <token>",
    "Authorization: Bearer ${TOKEN}",
    "'Authorization': 'Bearer ' + token",
    "f'Bearer {token}'",
    "Authorization: Basic <credentials>",
    "the bearer of this letter",
    "postgres://user:password@localhost/db",
    "postgres://postgres:postgres@localhost/db",
    "postgres://${USER}:${PASS}@localhost/db",
    "https://{user}:{pw}@host/",
    "https://host:8080/a@b",
    "http://[::1]:80/x@y",
    "integrity sha512-{b86}==",
    '"integrity": "sha512-{b86}=="',
    "commit {h40}",
    "sha256:{h64}",
    "550e8400-e29b-41d4-a716-446655440000",
    "data:image/png;base64,{b400}",
    "data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXX0=",
    "//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbXX0=",
    '"cursor": "eyJpZCI6MTIzNDU2Nzg5MCwicGFnZSI6Mn0"',
    "eyJhbGciOi.short.x",
    'class="sk-circle-fade-dot sk-chase"',
    "task-1234567890abcdefghij",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "sk-ant-api03-your-key-here-please-0",
    "sk-...",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "AKIAIOSFODNN7EXAMPLE",
    "AKIA",
    "xAKIA{216}",
    "AKIA{216}{a40}",
    "npm_config_registry_with_a_long_name_here",
    "hf_hub_download_with_progress_bar_v2",
    "{b64}AKIA{b64}",
    "glpat-",
    "-----BEGIN CERTIFICATE-----\n{b64}\n{b64}\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n{b64}\n{b64}\n-----END PUBLIC KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
    "grep -- '-----BEGIN PRIVATE KEY-----' file",
]


def draw(form: str, seed: int) -> str:
    """The form with its places filled."""
    rng = random.Random(f"{form} {seed}")
    return re.sub(r"\{([aldhun2sb])(\d+)\}", lambda m: "".join(rng.choices(ALPHABETS[m[1]], k=int(m[2]))), form)


def found(text: str, context: str = "") -> list[tuple[str, str]]:
    raw = text.encode()
    return [(raw[a:b].decode(), name) for a, b, kind, name in ALL.find(raw, context.encode()) if kind == "secret"]


@pytest.mark.parametrize(("name", "form"), VENDORS)
@pytest.mark.parametrize(
    "frame", ["{}", "x {} y", "key='{}'", "API_KEY={}\n", '{{"apiKey": "{}"}}', "https://x/?k={}&y", "({})", "\\n{}\\n"]
)
def test_the_key_of_a_vendor(name: str, form: str, frame: str) -> None:
    for seed in range(5):
        key = draw(form, seed)
        if key.endswith(("-", "_")) or key[0] in "+/-_":
            continue  # where a key ends in a dash even a person cannot tell
        if frame.startswith("\\n") and not key[0].isalpha():
            continue
        assert found(frame.format(key)) == [(key, name)]


@pytest.mark.parametrize("form", PEMS)
def test_a_private_key_is_found_from_the_first_dash_to_the_last(form: str) -> None:
    for seed in range(5):
        key = draw(form, seed)
        assert found(f"x: |\n{key}\nrest of it\n") == [(key.strip(" "), "pem_key")]


@pytest.mark.parametrize(("name", "form"), NAMED)
def test_a_name_gives_it_away(name: str, form: str) -> None:
    for seed in range(5):
        before, value, behind = draw(form, seed).replace("»", "«").split("«")
        assert found(f"first\n{before}{value}{behind}\nlast") == [(value, name)]


@pytest.mark.parametrize("form", NO_SECRETS)
def test_no_secret(form: str) -> None:
    for seed in range(5):
        text = draw(form, seed)
        assert found(text) == []
        assert found(f"first\n  {text}\nlast") == []


def test_the_secret_beside_an_access_key_of_aws() -> None:
    """The file of credentials that AWS gives: user, key, secret."""
    text = draw("User,Access key ID,Secret access key\njoe,AKIA{216},{b40}\n", 0)
    key, secret = text.split("\n")[1].split(",")[1:]
    assert found(text) == [(key, "aws_access_key"), (secret, "aws_secret_key")]
    assert found(f"{key} then {secret}")[1:] == []


CONTEXTS = [
    ("password", "hunter2", "password"),
    ("db_password", "Xk3$mmq!", "password"),
    ('"password": "', "hunter2", "password"),
    ("passphrase", "purple monkey dishwasher lamp", "password"),
    ("api_key", "a1b2c3d4e5f60718293a4b5c6d7e8f90", "secret_key"),
    ("client_secret", "a1B2c3D4e5F60718", "secret"),
    ("access_token", "q7W9e2R4t6Y8u1I3o5P0", "token"),
    ("Authorization", "Bearer q7W9e2R4t6Y8u1I3o5P0", "authorization"),
]
NO_CONTEXTS = [
    ("text", "hunter2"),
    ("password", ""),
    ("password", "string"),
    ("password", "The password is required and must have 8 characters."),
    ("password_hint", "hunter2"),
    ("max_tokens", "4096"),
    ("key", "a1b2c3d4e5f60718293a4b5c6d7e8f90"),
    ("next_page_token", "a1b2c3d4e5f60718293a4b5c6d7e8f90"),
    ("token", "hello"),
]


@pytest.mark.parametrize(("context", "value", "name"), CONTEXTS)
def test_the_key_of_a_member_gives_its_value_away(context: str, value: str, name: str) -> None:
    [(span, got)] = found(value, context)
    assert got == name
    assert span == value.removeprefix("Bearer ")


@pytest.mark.parametrize(("context", "value"), NO_CONTEXTS)
def test_the_key_of_a_member_says_nothing(context: str, value: str) -> None:
    assert found(value, context) == []


def test_a_context_that_names_a_number() -> None:
    assert [each[2] for each in ALL.find(b"4155552671", b"phoneNumber")] == ["phone"]
    assert [each[2] for each in ALL.find(b"123456789", b"ssn")] == ["ssn"]
    assert ALL.find(b"4155552671", b"userId") == []


def test_the_name_of_a_vendor_wins_over_that_of_a_key() -> None:
    key = draw("sk-ant-api03-{s93}AA", 0)
    assert found(f"api_key = '{key}'") == found(key, "api_key") == [(key, "anthropic_key")]


def test_every_name_is_drawn_or_known() -> None:
    """Which vendors have no case above: each has one row of the table and nothing of its own."""
    drawn = {name for name, _ in [*VENDORS, *NAMED]} | {"pem_key"}
    assert set(NAMES["secret"]) >= drawn
