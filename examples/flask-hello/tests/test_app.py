"""`glasscase test` runs these against the enclave; `python3 -m unittest discover -s tests` runs those that need none."""

import json
import os
import sys
import unittest
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from app.scoring import score

# a local port that leads to the verified enclave, set by `glasscase test`
URL = os.environ.get("GLASSCASE_TEST_URL", "")


def ask(path, body=None):
    """Return status and JSON of one request to the enclave."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


class Scoring(unittest.TestCase):
    def test_a_usual_payment_is_harmless(self):
        self.assertEqual(score(100, 12, True), 0)

    def test_a_large_one_at_night_to_a_stranger_is_not(self):
        self.assertEqual(score(90000, 2, False), 100)


@unittest.skipUnless(URL, "no enclave here; run: glasscase test")
class Enclave(unittest.TestCase):
    def test_it_is_healthy(self):
        self.assertEqual(ask("/health"), (200, {"status": "ok"}))

    def test_it_scores_a_payment(self):
        status, answer = ask("/score", {"amount": 90000, "hour": 2, "known_payee": False})
        self.assertEqual(status, 200)
        self.assertEqual(answer["score"], 100)
        self.assertTrue(answer["stop"])

    def test_it_refuses_what_is_not_a_payment(self):
        status, _ = ask("/score", {"amount": "much"})
        self.assertIn(status, (400, 422))


if __name__ == "__main__":
    unittest.main()
