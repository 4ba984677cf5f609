"""Secrets that have a form of their own: keys of vendors, JSON web tokens, private keys in PEM. Imports nothing of ours
but pii_text.

A vendor's key is a row: what it begins with, of which bytes the rest is, and how many. The forms are the vendors' own
(their documentation, GitHub's list of supported secrets) and, where they publish none, those that secret scanners use.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from lunaroute._fast.pii_text cimport (
    ALNUM, BASE64, BLANK, DASH, DIGIT, DOT, EQUAL, HEX, LINE, LOWER, NOTHING, PLUS, SECRET, SLUG, TILDE, UNDER, UPPER,
    WORD, Span, Text, at, escaped, has, run, run_at_most, run_back, starts,
)

ANY = 0                         # no upper limit: the whole run of such bytes is the key
# begins with; name; bytes of the rest; how many at least and at most; then, where something stands before the part that
# is searched for: its bytes, how many at least and at most
ROWS = [
    ("sk-ant-", "anthropic_key", SLUG, 24, ANY),
    ("sk-proj-", "openai_key", SLUG, 40, ANY),
    ("sk-svcacct-", "openai_key", SLUG, 40, ANY),
    ("sk-admin-", "openai_key", SLUG, 40, ANY),
    ("sk-or-v1-", "openrouter_key", HEX, 64, 64),
    ("sk-lf-", "langfuse_key", HEX | DASH, 36, 36),
    ("sk-", "openai_key", SLUG, 20, ANY),                       # the old form; DeepSeek, Moonshot and others copy it
    ("sess-", "openai_session", ALNUM, 40, 40),
    ("AKIA", "aws_access_key", UPPER | DIGIT, 16, 16),          # AWS IAM reference, unique identifiers
    ("ASIA", "aws_access_key", UPPER | DIGIT, 16, 16),
    ("ABIA", "aws_access_key", UPPER | DIGIT, 16, 16),
    ("ACCA", "aws_access_key", UPPER | DIGIT, 16, 16),
    ("ABSK", "aws_bedrock_key", BASE64 | EQUAL, 100, ANY),
    ("bedrock-api-key-", "aws_bedrock_key", BASE64 | EQUAL, 40, ANY),
    ("IQoJb3JpZ2lu", "aws_session_token", BASE64 | EQUAL, 100, ANY),
    ("FwoGZXIvYXdz", "aws_session_token", BASE64 | EQUAL, 100, ANY),
    ("ghp_", "github_token", ALNUM, 36, 255),                   # GitHub: behind a token's prefix
    ("gho_", "github_token", ALNUM, 36, 255),
    ("ghu_", "github_token", ALNUM, 36, 255),
    ("ghs_", "github_token", SLUG | DOT, 36, ANY),
    ("ghr_", "github_token", ALNUM, 36, 255),
    ("github_pat_", "github_token", WORD, 50, 255),
    ("glpat-", "gitlab_token", SLUG | DOT, 20, 300),            # GitLab: token prefixes
    ("gldt-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glrt-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glrtr-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glcbt-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glptt-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glft-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glimt-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glagent-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glsoat-", "gitlab_token", SLUG | DOT, 20, 300),
    ("gloas-", "gitlab_token", SLUG | DOT, 20, 300),
    ("glffct-", "gitlab_token", SLUG | DOT, 20, 300),
    ("GR1348941", "gitlab_token", SLUG, 20, 20),
    ("AIza", "google_api_key", SLUG, 35, 35),
    ("AQ.Ab", "google_api_key", SLUG, 40, 80),
    ("GOCSPX-", "google_client_secret", SLUG, 28, 28),
    ("ya29.", "google_oauth_token", SLUG | DOT, 30, ANY),
    ("1//0", "google_refresh_token", SLUG, 40, 120),
    ("xoxb-", "slack_token", SLUG, 20, ANY),                    # Slack: token types
    ("xoxp-", "slack_token", SLUG, 20, ANY),
    ("xoxa-", "slack_token", SLUG, 20, ANY),
    ("xoxr-", "slack_token", SLUG, 20, ANY),
    ("xoxs-", "slack_token", SLUG, 20, ANY),
    ("xoxc-", "slack_token", SLUG, 20, ANY),
    ("xoxd-", "slack_token", BASE64 | SLUG, 20, ANY),
    ("xoxe-", "slack_token", SLUG, 20, ANY),
    ("xoxe.xox", "slack_token", SLUG, 20, ANY),
    ("xapp-", "slack_token", SLUG, 20, ANY),
    ("xwfp-", "slack_token", SLUG, 20, ANY),
    ("hooks.slack.com/services/", "slack_webhook", ALNUM | PLUS, 20, 100),
    ("hooks.slack.com/workflows/", "slack_webhook", ALNUM | PLUS, 20, 100),
    ("discord.com/api/webhooks/", "discord_webhook", SLUG | PLUS, 60, 120),
    ("discordapp.com/api/webhooks/", "discord_webhook", SLUG | PLUS, 60, 120),
    ("sk_live_", "stripe_key", ALNUM, 16, 255),                 # Stripe: API keys
    ("sk_test_", "stripe_key", ALNUM, 16, 255),
    ("rk_live_", "stripe_key", ALNUM, 16, 255),
    ("rk_test_", "stripe_key", ALNUM, 16, 255),
    ("whsec_", "stripe_webhook_secret", BASE64 | EQUAL, 24, 128),
    ("npm_", "npm_token", ALNUM, 36, 36),
    ("pypi-Ag", "pypi_token", SLUG, 50, ANY),
    ("hf_", "huggingface_token", ALNUM, 30, 40),
    ("api_org_", "huggingface_token", ALNUM, 30, 40),
    ("Q~", "azure_client_secret", SLUG | DOT | TILDE, 31, 34, SLUG | DOT | TILDE, 4, 4),
    ("+ASt", "azure_storage_key", BASE64 | EQUAL, 8, 8, BASE64, 76, 76),    # Microsoft: identifiable secrets
    ("ACDb", "azure_cosmos_key", BASE64 | EQUAL, 8, 8, BASE64, 76, 76),
    ("AZDO", "azure_devops_token", ALNUM, 4, 4, ALNUM, 76, 76),
    ("JQQJ99", "azure_ai_key", ALNUM, 26, 26, ALNUM, 52, 52),
    ("AzFu", "azure_functions_key", SLUG | EQUAL, 8, 8, SLUG, 44, 44),
    ("AzSe", "azure_search_key", ALNUM, 6, 6, ALNUM, 42, 42),
    ("+ACR", "azure_registry_key", BASE64, 6, 6, BASE64, 42, 42),
    ("AzCa", "azure_redis_key", BASE64 | EQUAL, 7, 7, BASE64, 33, 33),
    ("+ASb", "azure_service_bus_key", BASE64 | EQUAL, 7, 7, BASE64, 33, 33),
    ("+AEh", "azure_event_hub_key", BASE64 | EQUAL, 7, 7, BASE64, 33, 33),
    (".atlasv1.", "terraform_token", SLUG | EQUAL, 60, 70, ALNUM, 14, 14),
    (":AA", "telegram_bot_token", SLUG, 33, 33, DIGIT, 8, 10),
    ("SG.", "sendgrid_key", SLUG | DOT, 64, 70),
    ("key-", "mailgun_key", HEX, 32, 32),
    ("SK", "twilio_key", HEX, 32, 32),
    ("xkeysib-", "brevo_key", HEX | ALNUM | DASH, 70, 90),
    ("dop_v1_", "digitalocean_token", HEX, 64, 64),
    ("doo_v1_", "digitalocean_token", HEX, 64, 64),
    ("dor_v1_", "digitalocean_token", HEX, 64, 64),
    ("shpat_", "shopify_token", HEX, 32, 32),
    ("shpca_", "shopify_token", HEX, 32, 32),
    ("shppa_", "shopify_token", HEX, 32, 32),
    ("shpss_", "shopify_token", HEX, 32, 32),
    ("lin_api_", "linear_key", ALNUM, 40, 40),
    ("ntn_", "notion_token", ALNUM, 40, 60),
    ("secret_", "notion_token", ALNUM, 43, 43),
    ("figd_", "figma_token", SLUG, 38, 60),
    ("ATATT3", "atlassian_token", SLUG | EQUAL, 100, ANY),
    ("ATCTT3", "atlassian_token", SLUG | EQUAL, 100, ANY),
    ("ATBB", "bitbucket_password", ALNUM, 28, 40),
    ("sq0atp-", "square_token", SLUG, 22, 22),
    ("sq0csp-", "square_token", SLUG, 43, 43),
    ("EAAA", "square_token", SLUG, 60, 60),
    ("EAA", "facebook_token", ALNUM, 100, ANY),
    ("pscale_tkn_", "planetscale_token", SLUG | DOT | EQUAL, 32, 64),
    ("pscale_pw_", "planetscale_token", SLUG | DOT | EQUAL, 32, 64),
    ("pscale_oauth_", "planetscale_token", SLUG | DOT | EQUAL, 32, 64),
    ("dapi", "databricks_token", HEX, 32, 32),
    ("dp.pt.", "doppler_token", ALNUM, 40, 50),
    ("dp.st.", "doppler_token", SLUG | DOT, 40, 80),
    ("dp.sa.", "doppler_token", ALNUM, 40, 50),
    ("hvs.", "vault_token", SLUG, 24, ANY),
    ("hvb.", "vault_token", SLUG, 80, ANY),
    ("hvr.", "vault_token", SLUG, 80, ANY),
    ("pul-", "pulumi_token", HEX, 40, 40),
    ("glc_", "grafana_token", BASE64 | EQUAL, 32, ANY),
    ("glsa_", "grafana_token", WORD, 41, 41),
    ("sntrys_", "sentry_token", BASE64 | EQUAL | UNDER, 40, ANY),
    ("sntryu_", "sentry_token", HEX, 64, 64),
    ("NRAK-", "newrelic_key", UPPER | DIGIT, 27, 27),
    ("NRII-", "newrelic_key", SLUG, 32, 32),
    ("phx_", "posthog_key", ALNUM, 30, 60),
    ("sbp_", "supabase_token", HEX, 40, 40),
    ("sb_secret_", "supabase_key", SLUG, 20, 80),
    ("nfp_", "netlify_token", ALNUM, 36, 36),
    ("fm2_", "fly_token", BASE64 | EQUAL, 80, ANY),
    ("fm1r_", "fly_token", BASE64 | EQUAL, 80, ANY),
    ("fm1a_", "fly_token", BASE64 | EQUAL, 80, ANY),
    ("fo1_", "fly_token", SLUG, 43, 43),
    ("r8_", "replicate_token", ALNUM, 37, 37),
    ("gsk_", "groq_key", ALNUM, 52, 52),
    ("pplx-", "perplexity_key", ALNUM, 48, 48),
    ("xai-", "xai_key", ALNUM, 80, 80),
    ("tgp_v1_", "together_key", SLUG, 40, 50),
    ("tvly-", "tavily_key", SLUG, 20, 60),
    ("pcsk_", "pinecone_key", WORD, 40, 90),
    ("lsv2_", "langsmith_key", WORD, 40, 60),
    ("csk-", "cerebras_key", ALNUM, 48, 48),
    ("nvapi-", "nvidia_key", SLUG, 60, 70),
    ("jina_", "jina_key", SLUG, 40, 70),
    ("fc-", "firecrawl_key", HEX, 32, 32),
    ("pat", "airtable_token", ALNUM | DOT, 79, 79),
    ("sl.", "dropbox_token", SLUG | DOT, 120, ANY),
    ("sk.eyJ", "mapbox_token", SLUG | DOT, 60, 120),
    ("AKCp", "artifactory_key", ALNUM, 69, 69),
    ("cmVmd", "artifactory_token", ALNUM, 59, 59),
    ("AGE-SECRET-KEY-1", "age_key", UPPER | DIGIT, 58, 58),
    ("ops_eyJ", "1password_token", BASE64 | SLUG | EQUAL, 200, ANY),
    ("A3-", "1password_key", UPPER | DIGIT | DASH, 31, 33),
    ("rdme_", "readme_key", ALNUM, 70, 70),
    ("EZAK", "easypost_key", ALNUM, 54, 54),
    ("EZTK", "easypost_key", ALNUM, 54, 54),
    ("shippo_live_", "shippo_key", HEX, 40, 40),
    ("shippo_test_", "shippo_key", HEX, 40, 40),
    ("duffel_live_", "duffel_token", SLUG | EQUAL, 43, 43),
    ("duffel_test_", "duffel_token", SLUG | EQUAL, 43, 43),
    ("tfp_", "typeform_token", SLUG | DOT, 50, 64),
    ("pnu_", "prefect_key", ALNUM, 36, 36),
    ("CLOJARS_", "clojars_token", ALNUM, 60, 60),
    ("tskey-", "tailscale_key", ALNUM | DASH, 20, 100),
    ("re_", "resend_key", WORD, 33, 33),
    ("dt0c01.", "dynatrace_token", UPPER | DIGIT | DOT, 89, 89),
    ("sqp_", "sonarqube_token", HEX, 40, 40),
    ("squ_", "sonarqube_token", HEX, 40, 40),
    ("sqa_", "sonarqube_token", HEX, 40, 40),
    ("CCIPAT_", "circleci_token", WORD, 40, 80),
    ("bkua_", "buildkite_token", HEX, 40, 40),
    ("CFPAT-", "contentful_token", SLUG, 43, 43),
    ("sgp_", "sourcegraph_token", WORD, 40, 70),
    ("rubygems_", "rubygems_key", HEX, 48, 48),
    ("cio", "crates_token", ALNUM, 32, 32),
    ("oy2", "nuget_key", LOWER | DIGIT, 43, 43),
    ("dckr_pat_", "docker_token", SLUG, 27, 27),
    ("dckr_oat_", "docker_token", SLUG, 32, 32),
    ("LTAI", "alibaba_access_key", ALNUM, 12, 24),
    ("AVNS_", "aiven_password", SLUG, 19, 19),
    ("HRKU-", "heroku_key", SLUG, 36, 70),
    ("rpa_", "runpod_key", ALNUM, 40, 50),
    ("API-", "octopus_key", UPPER | DIGIT, 26, 26),
    ("p8e-", "adobe_secret", LOWER | DIGIT, 32, 32),
    ("v1.0-", "cloudflare_ca_key", HEX | DASH, 171, 171),
    ("sha256~", "openshift_token", SLUG, 43, 43),
    ("ico-", "infracost_key", ALNUM, 32, 32),
    ("FLWSECK", "flutterwave_key", SLUG, 20, 50),
    ("PMAK-", "postman_key", HEX | DASH, 59, 59),
    ("waka_", "wakatime_key", HEX | DASH, 36, 36),
    ("AQVN", "yandex_key", SLUG, 35, 38),
]
NAMES = [*(row[1] for row in ROWS), "jwt", "pem_key", "aws_secret_key"]

cdef enum:
    BUCKETS = 32
    ROOM = 224
    PREFIX = 32
    NO_END = 1 << 30

cdef struct Row:
    uint8_t prefix[PREFIX]
    int size
    int classes
    Py_ssize_t least, most
    int before
    Py_ssize_t before_least, before_most

cdef int WEAK = [row[0] for row in ROWS].index("sk-")      # also what classes of style sheets begin with
cdef int JWT_NAME = len(ROWS), PEM_NAME = len(ROWS) + 1, AWS_NAME = len(ROWS) + 2
cdef Row[ROOM] TABLE
cdef int BUCKET[BUCKETS][ROOM]
cdef int IN_BUCKET[BUCKETS]


cdef bint among(int c, int classes):
    return has(c, classes)


cdef fill():
    """Rows with the same first two bytes share a bucket; the buckets are those whose bytes confuse them least."""
    if len(ROWS) > ROOM:
        raise ValueError("more rows than there is room for")
    beginnings = sorted({row[0][:2] for row in ROWS})
    for number, row in enumerate(ROWS):
        prefix = row[0].encode()
        memcpy(TABLE[number].prefix, <const char *>prefix, len(prefix))
        TABLE[number].size, TABLE[number].classes, TABLE[number].least = len(prefix), row[2], row[3]
        TABLE[number].most = row[4] or NO_END
        if len(row) > 5:
            TABLE[number].before, TABLE[number].before_least, TABLE[number].before_most = row[5:]
        bucket = beginnings.index(row[0][:2]) % BUCKETS
        BUCKET[bucket][IN_BUCKET[bucket]] = number
        IN_BUCKET[bucket] += 1
        for place in range(4):
            for c in range(256):
                if prefix[place] == c if place < len(prefix) else among(c, row[2]):
                    VENDOR[place][c] |= <uint32_t>1 << <int>bucket


fill()


cdef bint likely(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Whether this may be a key: not xxxxxxxx, not ...EXAMPLE, not your-key-here, not all words."""
    cdef uint32_t seen[8]
    cdef Py_ssize_t k
    cdef int distinct = 0, bit
    cdef bint digits = False, upper = False, same
    for k in range(8):
        seen[k] = 0
    for k in range(n if n < 256 else 256):
        bit = p[k] & 31
        if not seen[p[k] >> 5] >> bit & 1:
            seen[p[k] >> 5] |= <uint32_t>1 << bit
            distinct += 1
        digits |= has(p[k], DIGIT)
        upper |= has(p[k], UPPER)
        if n - k >= 4:
            # written out by hand: example, xxxx, your_, -here
            same = p[k] == p[k + 1] and p[k] == p[k + 2] and p[k] == p[k + 3]
            if same and (p[k] in b"xX." or (n - k >= 6 and p[k + 4] == p[k] and p[k + 5] == p[k])):
                return False
            if n - k >= 7 and (memcmp(p + k, b"EXAMPLE", 7) == 0 or memcmp(p + k, b"example", 7) == 0):
                return False
            if memcmp(p + k, b"your", 4) == 0 or memcmp(p + k, b"YOUR", 4) == 0 or memcmp(p + k, b"here", 4) == 0:
                return False
    return distinct >= (5 if n < 12 else 7) and (digits or upper)


cdef bint alone(const Text *t, Py_ssize_t start) noexcept nogil:
    """Whether nothing that could belong to the key stands before it."""
    return start == 0 or not has(t.p[start - 1], ALNUM) or escaped(t, start)


cdef Py_ssize_t vendor(const Text *t, Py_ssize_t i, uint32_t buckets, Span *found) noexcept nogil:
    """The key of a vendor whose mark is at i, in `found`; where to go on."""
    cdef int bucket, k, number
    cdef Py_ssize_t end, start, n, behind
    cdef Row *row
    cdef const uint8_t *key
    found.kind = NOTHING
    for bucket in range(BUCKETS):
        if not buckets >> bucket & 1:
            continue
        for k in range(IN_BUCKET[bucket]):
            number = BUCKET[bucket][k]
            row = &TABLE[number]
            if row.size > t.n - i or t.p[i + 1] != row.prefix[1] or memcmp(t.p + i, row.prefix, row.size) != 0:
                continue
            start = i
            if row.before:
                start = run_back(t, i, row.before, row.before_most + 1)
                start += i - start > row.before_most and escaped(t, start + 1)      # the n of \n
                if not row.before_least <= i - start <= row.before_most:
                    continue
            if not alone(t, start):
                continue
            end = behind = run_at_most(t, i + row.size, row.classes, row.most + 1)
            # a full stop ends the sentence, not the key
            while end > i + row.size and t.p[end - 1] == c".":
                end -= 1
            n = end - i - row.size
            if not row.least <= n <= row.most:
                continue
            if has(at(t, end), ALNUM) and row.most == row.least:
                continue
            if has(at(t, start - 1), PLUS) and has(at(t, end), PLUS | EQUAL):
                continue            # in the midst of base64
            key = t.p + i + row.size
            if not row.before and not (likely(key, n) and (number != WEAK or digits_in(key, n))):
                if row.most == NO_END:
                    return behind       # or the same bytes would be read again for each such beginning in them
                continue
            found.kind, found.name = SECRET, number
            found.start, found.end = start, end
            return end
    return i + 1


cdef bint paired(const Text *t, const Span *first, Span *found) noexcept nogil:
    """Whether the secret of an access key of AWS stands right behind it, as in the file that one gets (AKIA...,secret)."""
    cdef Py_ssize_t start = first.end, end
    if TABLE[first.name].size != 4 or TABLE[first.name].classes != (UPPER | DIGIT) or TABLE[first.name].most != 16:
        return False
    while start < t.n and start - first.end < 4 and t.p[start] in b",;:|/ \t\"'":
        start += 1
    end = run_at_most(t, start, BASE64, 41)
    if end - start != 40 or start == first.end or not digits_in(t.p + start, 40) or not likely(t.p + start, 40):
        return False
    found.kind, found.name, found.start, found.end = SECRET, AWS_NAME, start, end
    return True


cdef bint digits_in(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        if has(p[k], DIGIT):
            return True
    return False


cdef Py_ssize_t jwt(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The signed or encrypted web token whose `eyJ` is at i (RFC 7519: base64url parts with dots, the first a JSON
    object), in `found`; where to go on. All parts are taken."""
    cdef Py_ssize_t end, part, first
    cdef int parts = 1
    found.kind = NOTHING
    if not alone(t, i):
        return run(t, i, SLUG)
    end = first = run(t, i, SLUG)
    if first - i < 16:
        return first
    while parts < 5 and at(t, end) == c".":
        part = run(t, end + 1, SLUG)
        if parts == 1 and (part - end < 10 or not starts(t, end + 1, b"ey", 2) and part - end < 20):
            break
        if parts > 2 and part == end + 1:
            break               # the full stop of a sentence; behind two parts it is the token's: there is no signature
        end = part
        parts += 1
    # a JSON object in base64 alone is no token (source maps, cursors of lists)
    if parts < 3:
        return first
    while at(t, end) == c"=":
        end += 1
    found.kind, found.name = SECRET, JWT_NAME
    found.start, found.end = i, end
    return end


cdef Py_ssize_t pem(const Text *t, Py_ssize_t i, Span *found) noexcept nogil:
    """The private key whose `--BEGIN` is at i (RFC 7468; OpenSSH; PGP, RFC 9580 6.2), in `found`; where to go on. It
    goes from the first dash to the last one of the END line, or to where its base64 ends when it was cut off."""
    cdef Py_ssize_t start = run_back(t, i, DASH, 3), k = i + 2, title, body, count = 0, chunk = 0
    cdef bint header = False
    found.kind = NOTHING
    if not starts(t, k, b"begin ", 6):
        return k
    title = k + 6
    k = run_at_most(t, title, UPPER | DIGIT | BLANK, 64)
    if at(t, k) != c"-" or at(t, k + 1) != c"-":
        return k
    body = k
    k = title
    while k < body and not starts(t, k, b"private key", 11):
        k += 1
    if k == body:
        return body
    k = body = run(t, body, DASH)
    while k < t.n:
        if has(t.p[k], BASE64 | EQUAL):
            count += 1
            chunk += 1
            k += 1
            continue
        if t.p[k] == c"-" and at(t, k + 1) == c"-":
            break
        header = header and not has(t.p[k], LINE) or t.p[k] == c":"     # Proc-Type: 4,ENCRYPTED
        if has(t.p[k], BLANK) and 0 < chunk < 40 and not header and at(t, k + 1) != c"-":
            k -= chunk          # words: the key was cut off before them
            break
        chunk = 0
        if t.p[k] == c"\\" and at(t, k + 1) in b"nrt" and k + 1 < t.n:
            k += 2
            header = False
            continue
        if not has(t.p[k], BLANK | LINE | DASH | DOT) and t.p[k] not in b"\\:,()'\"":
            break
        k += 1
    if count < 40:
        return body
    if at(t, k) == c"-" and starts(t, run(t, k, DASH), b"end ", 4):
        k = run(t, k, DASH)
        k = run_at_most(t, k, UPPER | DIGIT | BLANK, 64)
        k = run(t, k, DASH)
    else:
        while k > body and not has(t.p[k - 1], BASE64 | EQUAL):
            k -= 1
    found.kind, found.name = SECRET, PEM_NAME
    found.start, found.end = start, k
    return k
