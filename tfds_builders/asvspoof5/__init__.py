"""ASVspoof 5: crowdsourced speech, adversarial attacks; see README.md."""
