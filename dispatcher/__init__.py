"""The dispatcher: sends each charge request to the substation that has the most room for it."""
