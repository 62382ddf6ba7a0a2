"""Systems Manager's Parameter Store: names and what they hold."""

from typing import TYPE_CHECKING, Any

from tests.simulation.aws.faults import aws_error

if TYPE_CHECKING:
    from tests.simulation.aws.account import Account


class Ssm:
    """A client; ``held`` is what each SecureString holds."""

    def __init__(self, account: "Account") -> None:
        self._account = account
        self.held: dict[str, str] = {}

    def get_parameter(self, *, Name: str, WithDecryption: bool) -> dict[str, Any]:
        def get() -> dict[str, Any]:
            if Name not in self.held:
                raise aws_error("ParameterNotFound", f"{Name} is not there", "GetParameter")
            # Without the key's work a SecureString is given as it lies there.
            return {"Parameter": {"Name": Name, "Type": "SecureString", "Value": self.held[Name] if WithDecryption else "AQICAH..."}}

        answer: dict[str, Any] = self._account.call("ssm.get_parameter", Name, get)
        return answer
