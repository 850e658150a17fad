"""Where state is kept. The only room that knows SQLAlchemy."""
