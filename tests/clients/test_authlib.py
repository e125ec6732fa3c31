"""Authlib gets a token by OpenID Connect and by SMART's backend services, and does with it what can be done."""

import json
import os
import time
from html.parser import HTMLParser
from unittest import TestCase
from urllib.parse import urljoin

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

BASE = os.environ["AUGURY_BASE"]
ROOT = BASE.removesuffix("/fhir")
CALLBACK = "https://app.example/callback"
PASSWORD = "correct horse battery"
SCOPE = "launch/patient openid fhirUser offline_access patient/*.rs"


class Form(HTMLParser):
    """The last form of a page: where it leads, and what it sends if nothing is changed."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.buttons = None, [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "form":
            self.action, self.fields, self.buttons = given["action"], [], []
        elif tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.fields.append((given["name"], given.get("value", "")))
        elif tag == "button" and "name" in given:
            self.buttons.append((given["name"], given["value"]))


def person(url):
    """Signs in, takes the first patient, and allows what is ticked; gives where the browser is led."""
    browser = requests.Session()
    answer = browser.get(url, allow_redirects=False)
    while True:
        if answer.status_code == 303:
            to = urljoin(answer.url, answer.headers["location"])
            if not to.startswith(ROOT):
                return to
            answer = browser.get(to, allow_redirects=False)
            continue
        assert answer.status_code == 200, answer.text
        form = Form(answer.text)
        own = {"login": "carol", "password": PASSWORD}
        fields = [(name, own.get(name, value)) for name, value in form.fields]
        sent = fields + form.buttons[:1]
        answer = browser.post(urljoin(answer.url, form.action), data=sent, allow_redirects=False)


class Authlib(TestCase):
    def test_openid_connect(self):
        app_id, secret = os.environ["AUGURY_SECRET_APP"].split()
        known = requests.get(f"{ROOT}/.well-known/openid-configuration").json()
        app = OAuth2Session(
            app_id, secret, scope=SCOPE, redirect_uri=CALLBACK, code_challenge_method="S256"
        )
        verifier = "v" * 64
        url, state = app.create_authorization_url(
            known["authorization_endpoint"], code_verifier=verifier, nonce="n", aud=BASE
        )
        token = app.fetch_token(
            known["token_endpoint"], authorization_response=person(url), state=state, code_verifier=verifier
        )
        keys = KeySet.import_key_set(requests.get(known["jwks_uri"]).json())
        claims = jwt.decode(token["id_token"], keys, algorithms=["RS256"]).claims
        self.assertEqual((claims["iss"], claims["aud"], claims["nonce"]), (known["issuer"], app_id, "n"))
        self.assertEqual(app.get(f"{BASE}/Patient/p1").json()["id"], "p1")
        self.assertEqual(app.get(claims["fhirUser"]).json()["resourceType"], "Practitioner")
        again = app.refresh_token(known["token_endpoint"], refresh_token=token["refresh_token"])
        self.assertEqual(again["scope"], token["scope"])
        said = app.introspect_token(known["introspection_endpoint"], token=again["access_token"]).json()
        self.assertTrue(said["active"])
        app.revoke_token(known["revocation_endpoint"], token=again["access_token"])
        ended = {"authorization": f"Bearer {again['access_token']}"}
        self.assertEqual(requests.get(f"{BASE}/Patient/p1", headers=ended).status_code, 401)

    def test_backend_services(self):
        app_id, file = os.environ["AUGURY_KEYS_APP"].split()
        with open(file, encoding="utf-8") as text:
            key = ECKey.import_key(json.load(text))
        known = requests.get(f"{BASE}/.well-known/smart-configuration").json()
        app = OAuth2Session(
            app_id, key, scope="system/Patient.rs", token_endpoint_auth_method="private_key_jwt"
        )
        # Authlib's own word lasts an hour, and does not say which key it is signed with: SMART wants both otherwise.
        ends = {"exp": int(time.time()) + 240}
        method = PrivateKeyJWT(known["token_endpoint"], claims=ends, headers={"kid": key.kid}, alg="ES384")
        app.register_client_auth_method(method)
        token = app.fetch_token(known["token_endpoint"], grant_type="client_credentials")
        self.assertEqual((token["scope"], token["expires_in"]), ("system/Patient.rs", 300))
        self.assertEqual(app.get(f"{BASE}/Patient/p1").status_code, 200)
        self.assertEqual(app.get(f"{BASE}/Observation").status_code, 403)
