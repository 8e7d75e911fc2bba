"""What the project is measured against: small programs, each naming what it leaves out."""
