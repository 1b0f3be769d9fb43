"""Make ``twistd llamaswap`` known to Twisted."""

from twisted.application.service import ServiceMaker

llamaswap = ServiceMaker(
    "llamaswap",
    "llamaswap.tap",
    "Run many local AI inference servers behind one OpenAI- and Anthropic-compatible address.",
    "llamaswap",
)
