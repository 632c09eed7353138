"""`glasscase test` runs these against the enclave; `python3 -m unittest discover -s tests` runs those that need none."""

import json
import os
import unittest
import urllib.request

URL = os.environ.get("GLASSCASE_TEST_URL", "")


def ask(path, body=None):
    """Return status and bytes of one request to the enclave."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, answer.read()


@unittest.skipUnless(URL, "no enclave here; run: glasscase test")
class Enclave(unittest.TestCase):
    def test_the_model_can_be_read(self):
        status, body = ask("/health")
        self.assertEqual(status, 200)
        self.assertGreater(json.loads(body)["parameters"], 40000)

    def test_the_tensors_are_in_memory_once(self):
        status, body = ask("/memory")
        memory = json.loads(body)
        self.assertEqual(status, 200)
        self.assertGreater(memory["tensors"], 160000)
        self.assertLess(memory["growth"], memory["tensors"] + (16 << 20))

    def test_it_completes_a_text(self):
        status, body = ask("/complete", {"prompt": "subject to the terms", "count": 80})
        self.assertEqual((status, len(body)), (200, 80))
        self.assertEqual(body, ask("/complete", {"prompt": "subject to the terms", "count": 80})[1])


if __name__ == "__main__":
    unittest.main()
