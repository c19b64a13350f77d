"""`python -m orderplane.sandbox.sms`"""

import sys

from orderplane.sandbox.process import run
from orderplane.sandbox.sms.app import build

sys.exit(run("sms", "ORDERPLANE_SMS_KEY", build))
