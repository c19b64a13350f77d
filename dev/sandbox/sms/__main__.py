"""`python -m orderplane.dev.sandbox.sms`"""

import sys

from orderplane.dev.sandbox.process import run
from orderplane.dev.sandbox.sms.app import build

sys.exit(run("sms", "ORDERPLANE_SMS_KEY", build))
