"""In-the-Wild: public figures and fakes of them; see README.md."""
