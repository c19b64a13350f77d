"""What the notifier is told by its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from orderplane.adapters.sms.twilio import TWILIO
from orderplane.workers import settings
from orderplane.workers.settings import SettingsWrong, number


@dataclass(frozen=True, slots=True)
class Settings:
    """See `from_env`. A channel without an address is not offered."""

    common: settings.Settings
    smtp_url: str
    mail_from: str
    sms_url: str
    sms_key: str
    sms_from: str
    lease: timedelta
    good_for: timedelta

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read the environment: what every worker reads, and

        `ORDERPLANE_SMTP_URL` (`smtp://`, `smtp+starttls://` or `smtps://`, with user and password where they
        are asked for) and `ORDERPLANE_MAIL_FROM` (`Name <address>`); `ORDERPLANE_SMS_KEY`
        (`ACCOUNT_SID:AUTH_TOKEN`), `ORDERPLANE_SMS_FROM` (a number or name), and `ORDERPLANE_SMS_URL`, by
        default Twilio's own.

        `ORDERPLANE_NOTIFIER_LEASE_SECONDS` (30): after so long others take over what a dead notifier had in
        hand; more than twice what a call to a provider may take, which is 8 s.
        `ORDERPLANE_NOTIFIER_GOOD_FOR_SECONDS` (a day): how long a message is tried.

        Raises:
            SettingsWrong: see the message.
        """
        common = settings.Settings.from_env(env)
        for need, of in (("ORDERPLANE_MAIL_FROM", "ORDERPLANE_SMTP_URL"),
                         ("ORDERPLANE_SMS_FROM", "ORDERPLANE_SMS_KEY")):  # fmt: skip
            if env.get(of) and not env.get(need):
                raise SettingsWrong(f"{need} is not set, but {of} is; say whom messages come from")
        lease = number(env, "ORDERPLANE_NOTIFIER_LEASE_SECONDS", 30)
        if lease < 1:
            raise SettingsWrong("ORDERPLANE_NOTIFIER_LEASE_SECONDS is 0; give it a second at least")
        return cls(
            common=common,
            smtp_url=env.get("ORDERPLANE_SMTP_URL", ""),
            mail_from=env.get("ORDERPLANE_MAIL_FROM", ""),
            sms_url=env.get("ORDERPLANE_SMS_URL") or TWILIO,
            sms_key=env.get("ORDERPLANE_SMS_KEY", ""),
            sms_from=env.get("ORDERPLANE_SMS_FROM", ""),
            lease=timedelta(seconds=lease),
            good_for=timedelta(seconds=number(env, "ORDERPLANE_NOTIFIER_GOOD_FOR_SECONDS", 86_400)),
        )
